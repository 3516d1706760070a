"""Commands about what is said and seen in a video: transcribe and track."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from videollm.cli.options import Commands, Options, add_command, count, number
from videollm.cli.output import format_span, hide_progress_bars, print_result
from videollm.device_arguments import add_device_arguments
from videollm.errors import ConfigError

if TYPE_CHECKING:
    from videollm.senses.finding import Finding
    from videollm.senses.tracks import ObjectTrack

SUBTITLES = ("srt", "vtt")


def register(commands: Commands) -> None:
    parser = add_command(commands, "transcribe", transcribe, "write down what is said in a video, with times")
    parser.add_argument("video", help="a video or a sound file")
    parser.add_argument(
        "--whisper",
        default="asset:whisper-base",
        metavar="DIR",
        help="directory of a Whisper model as transformers writes it (default: whisper-base, 133 MB, fetched once)",
    )
    parser.add_argument("--language", metavar="CODE", help="such as en or zh (default: detected)")
    parser.add_argument("--track", type=count(0), default=0, metavar="N", help="which audio track, from 0 (default: 0)")
    parser.add_argument("--out", metavar="FILE", help="write subtitles: FILE.srt or FILE.vtt")
    add_device_arguments(parser, language_model=False)

    parser = add_command(commands, "track", track, "find people and things in a video, and follow them")
    parser.add_argument("video")
    parser.add_argument("--label", action="append", metavar="NAME", help="only this COCO class, such as person")
    parser.add_argument(
        "--fps",
        type=number(most=1000, above=True),
        default=2.0,
        metavar="N",
        help="frames a second to look at (default: 2)",
    )
    parser.add_argument(
        "--open", metavar="FILE", help="write tracks: FILE.mp4 with boxes drawn, FILE.json, or FILE.txt (MOT format)"
    )
    add_device_arguments(parser, language_model=False)


def transcribe(options: Options) -> None:
    from videollm.senses.speech import SpeechSense
    from videollm.video.subtitles import Cue, write_subtitles

    kind = Path(options.out or "any.srt").suffix.lower().removeprefix(".")
    if kind not in SUBTITLES:
        raise ConfigError(f"{options.out}: subtitles are written as .srt or .vtt; give a name that ends so")
    hide_progress_bars()
    sense = SpeechSense(options.whisper, language=options.language, device=options.device)
    found: list[Finding] = []
    # Lines appear as they are found: an hour of speech takes minutes.
    for finding in sense(options.video, options.track):
        found.append(finding)
        if not options.json:
            print(f"{format_span(finding)}  {finding.text}", flush=True)
    if options.out:
        cues = [Cue(f.start_s, f.end_s, f.text) for f in found]
        Path(options.out).write_text(write_subtitles(cues, kind), encoding="utf-8")
        print(f"wrote {options.out}", file=sys.stderr)
    if options.json:
        rows = [{"start": f.start_s, "end": f.end_s, "text": f.text, "score": f.score} for f in found]
        language = found[0].language if found else None
        print_result(options, {"language": language, "segments": rows}, "")
    elif not found:
        print("Nobody speaks in this video.")


def track(options: Options) -> None:
    from videollm.senses.detector import NAMES
    from videollm.senses.objects import ObjectSense, most_at_once

    unknown = sorted(set(options.label or ()) - set(NAMES))
    if unknown:
        raise ConfigError(f"no class is named {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    sense = ObjectSense(fps=options.fps, device=options.device)
    tracks = [t for t in sense.tracks(options.video) if options.label is None or t.name in options.label]
    if options.open:
        _write_tracks(Path(options.open), options.video, tracks)
        print(f"wrote {options.open}", file=sys.stderr)
    counts = most_at_once(tracks)
    lines = [f"{format_span(t):13} {t.name} {t.number} ({t.score:.2f})" for t in tracks]
    most = ", ".join(f"{name} {count}" for name, count in counts.items())
    lines.append(f"at once, at most: {most}" if tracks else "Nothing that the detector knows is in this video.")
    print_result(options, {"tracks": [_as_json(t) for t in tracks], "at_once": counts}, "\n".join(lines))


def _as_json(track: "ObjectTrack") -> dict[str, object]:
    return {
        "number": track.number,
        "name": track.name,
        "start": track.start_s,
        "end": track.end_s,
        "score": track.score,
        "boxes": [{"time": t, **asdict(d)} for t, d in zip(track.times_s, track.detections, strict=True)],
    }


def _write_tracks(path: Path, video: str, tracks: "list[ObjectTrack]") -> None:
    from videollm.senses.drawing import draw_tracks
    from videollm.senses.tracks import mot_lines
    from videollm.video.decoding import probe

    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.suffix == ".mp4":
        draw_tracks(video, tracks, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps([_as_json(t) for t in tracks]), encoding="utf-8")
    elif path.suffix == ".txt":
        info = probe(video)
        path.write_text("".join(mot_lines(tracks, info.width, info.height)), encoding="utf-8")
    else:
        raise ConfigError(f"{path}: tracks are written as .mp4, .json or .txt; give a name that ends so")
