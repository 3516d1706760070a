"""Commands about one video: info, classify, moments, cut, keyframes and summarize."""

from dataclasses import asdict
from pathlib import Path

from videollm.cli.models import encode, open_session
from videollm.cli.options import (
    Commands,
    Options,
    add_command,
    count,
    device_arguments,
    model_arguments,
    plain_text,
    sampling_arguments,
    senses_arguments,
)
from videollm.cli.output import format_score, format_span, format_tags, print_result, print_with_sheet, to_json
from videollm.cli.shapes import PartJSON, tags_json
from videollm.errors import ConfigError

SHOWN_CLASSES = 5  # of each label of a recogniser; --json has all


def register(commands: Commands) -> None:
    one_video = (model_arguments(), device_arguments(), sampling_arguments(), senses_arguments())
    encoder_only = (model_arguments(), device_arguments(language_model=False), sampling_arguments())
    add_command(commands, "info", info, "show what a file holds").add_argument("video")

    parser = add_command(commands, "classify", classify, "rank labels by how well a video shows them", *encoder_only)
    parser.add_argument("video")
    parser.add_argument(
        "--labels",
        type=plain_text,
        help="at least two, separated by commas: cat,dog,boat (default: the classes of --model DIR, which "
        "train/recognize.py wrote)",
    )

    sensed = (*encoder_only, senses_arguments("none"))
    parser = add_command(commands, "moments", moments, "find when in a video something is shown or said", *sensed)
    parser.add_argument("video")
    parser.add_argument("query", type=plain_text, help="text that describes it")
    parser.add_argument("-k", type=count(), default=3, help="number of moments, at most (default: 3)")

    parser = add_command(commands, "cut", cut, "write a part of a video to a file of its own", *encoder_only)
    parser.add_argument("video")
    parser.add_argument(
        "query", type=plain_text, nargs="?", help="text that describes the part (default: all from --start to --end)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="FILE.mp4 with sound, or FILE.gif or FILE.webp"
    )

    parser = add_command(commands, "keyframes", keyframes, "choose the frames that represent a video", *one_video)
    parser.add_argument("video")
    parser.add_argument("-n", type=count(), default=6, help="number of frames (default: 6)")
    parser.add_argument("--describe", action="store_true", help="let the model describe the part around each")
    parser.add_argument(
        "--open", nargs="?", const="keyframes.png", metavar="PNG", help="write them as a picture (keyframes.png)"
    )

    parser = add_command(
        commands, "summarize", summarize, "describe a video's key parts, and draw a storyboard", *one_video
    )
    parser.add_argument("video")
    parser.add_argument("-n", type=count(), default=6, help="number of parts (default: 6)")
    parser.add_argument("--storyboard", metavar="PNG", help="where to write it (default: VIDEO-storyboard.png)")


def info(options: Options) -> None:
    from videollm.video.decoding import probe

    found = asdict(probe(options.video))
    lines = [f"{name:12} {to_json(value) if isinstance(value, float) else value}" for name, value in found.items()]
    print_result(options, found, "\n".join(lines))


def classify(options: Options) -> None:
    from videollm.retrieval.classify import classify as rank

    if options.labels is None:
        _recognise(options)
        return
    encoder, _, video = encode(options)
    found = rank(video, options.labels.split(","), encoder)
    lines = [f"{100 * f.prob:5.1f}%  {f.label}" for f in found]
    print_result(options, {"labels": [{"label": f.label, "prob": f.prob} for f in found]}, "\n".join(lines))


def _recognise(options: Options) -> None:
    from videollm.retrieval.recogniser import Recogniser, is_there

    if not is_there(Path(options.model)):
        raise ConfigError(
            f"model {options.model} has no classes of its own; give at least two labels (--labels cat,dog), or a "
            "directory that train/recognize.py wrote (--model DIR)"
        )
    if options.frames is not None or options.fps is not None:
        raise ConfigError("--frames and --fps do not apply: a recogniser samples frames as in its training; omit them")
    part = {"start_s": options.start_s, "end_s": options.end_s, "decoder": options.decoder or "pyav"}
    found = Recogniser.load(Path(options.model), options.device).classify(options.video, **part)
    rows = [{"label": f.label, "prob": f.prob, "of": k} for k, label in enumerate(found, 1) for f in label]
    lines = [f"{100 * f.prob:5.1f}%  {f.label}" for label in found for f in label[:SHOWN_CLASSES]]
    print_result(options, {"labels": rows}, "\n".join(lines))


def moments(options: Options) -> None:
    from videollm.retrieval.grounding import ground

    encoder, _, video = encode(options, options.senses or ())
    found = ground(video, options.query, encoder, options.k)
    rows = [{"start": s.start_s, "end": s.end_s, "score": s.score, "text": s.text} for s in found]
    lines = [f"{format_score(s.score):>5}  {format_span(s)}" + (f'  "{s.text}"' if s.text else "") for s in found]
    print_result(options, {"moments": rows}, "\n".join(lines))


def cut(options: Options) -> None:
    from videollm.retrieval.grounding import Span, ground
    from videollm.video import cutting
    from videollm.video.decoding import probe

    if options.query is not None:
        encoder, _, video = encode(options)
        (part,) = ground(video, options.query, encoder, 1)
    elif options.start_s is None and options.end_s is None:
        raise ConfigError("the part is not given; describe it in words, or give --start and --end in seconds")
    else:
        end_s = probe(options.video).duration_s if options.end_s is None else options.end_s
        part = Span(options.start_s or 0.0, end_s, 1.0)
    clip = cutting.cut(options.video, part.start_s, part.end_s, options.out)
    result = {"start": clip.start_s, "end": clip.end_s, "copied": clip.copied, "file": str(options.out)}
    how = "copied without loss" if clip.copied else "encoded again"
    print_result(options, result, f"wrote {options.out}: {format_span(clip)}, {how}")


def keyframes(options: Options) -> None:
    from videollm.chat.summary import describe_at
    from videollm.datasets.schema import format_time
    from videollm.retrieval.contact_sheet import Panel
    from videollm.retrieval.keyframes import keyframes as choose

    if options.describe:
        session = open_session(options)
        encoder, config, video = session.model.encoder, session.model.config, session.video
        chosen = choose(video, encoder.vocabulary, config.prompt, options.n)
        texts = [describe_at(session.model, video, k.time_s) for k in chosen]
    else:  # frames are chosen by the encoder alone: the language model is not loaded
        encoder, config, video = encode(options)
        chosen = choose(video, encoder.vocabulary, config.prompt, options.n)
        texts = [""] * len(chosen)
    rows, lines, panels = [], [], []
    for k, text in zip(chosen, texts, strict=True):
        tags = format_tags(k.tags)
        rows.append({"time": k.time_s, "share": k.share, "tags": tags_json(k.tags), "text": text})
        lines.append(f"{format_time(k.time_s)}  {100 * k.share:3.0f}%  {text or tags or 'unclear'}")
        panels.append(Panel(options.video, k.time_s, f"{format_time(k.time_s)}  {text}", tags))
    print_with_sheet(options, {"keyframes": rows}, "\n".join(lines), options.open, panels)


def summarize(options: Options) -> None:
    from videollm.chat.summary import summarize as make_summary

    session = open_session(options)
    summary = make_summary(session.model, session.video, options.n)
    storyboard = options.storyboard or f"{Path(options.video).stem}-storyboard.png"
    rows = [asdict(PartJSON.of(part)) for part in summary.parts]
    lines = [summary.text, *(f"{format_span(p):13} {100 * p.share:3.0f}%  {p.text}" for p in summary.parts)]
    panels = summary.storyboard(options.video)
    print_with_sheet(options, {"text": summary.text, "parts": rows}, "\n".join(lines), storyboard, panels)
