"""Turn an annotated video collection into instruction data.

    python data_gen/make_instructions.py SOURCE --out FILE [--videos DIR] [--generator template|llm|semi|auto] ...

SOURCE is an annotation file (or a folder of subtitles) in one of the formats that `videollm/datasets` reads. The format
is recognised by the content, or named by --format. For the generator `auto`, SOURCE is a folder of videos without an
annotation, or a text file that lists them. The same command continues a run that was stopped.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from data_gen.generators.config import GENERATORS, GeneratorConfig
from videollm.datasets.registry import CLIP_READERS
from videollm.errors import VideoLLMError
from videollm.extras import explain_missing


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Turn an annotated video collection into instruction data.")
    top.add_argument("source", type=Path, help="annotation file, folder of subtitles; auto: folder or list of videos")
    top.add_argument("--out", type=Path, required=True, help="file of samples (JSON Lines) to write or to continue")
    top.add_argument("--videos", type=Path, help="folder of the videos (default: that of SOURCE)")
    top.add_argument(
        "--format", choices=list(CLIP_READERS), help="format of SOURCE (default: recognised by its content)"
    )
    top.add_argument(
        "--split", default="train", metavar="NAME", help="split to read of a SOURCE that states splits (default: train)"
    )
    top.add_argument("--strict", action="store_true", help="stop at the first broken row")
    top.add_argument("--limit", type=int, metavar="N", help="read the first N clips only")
    top.add_argument("--dry-run", action="store_true", help="show the first three prompts and write nothing")
    top.add_argument(
        "--generator",
        choices=GENERATORS,
        default="template",
        help="template: phrasings around the annotation; llm: a language model; semi: proposals that you review; "
        "auto: what models find in videos without an annotation (default: template)",
    )
    top.add_argument("--languages", type=_names, metavar="en,zh", help="template: only these; llm: translate to these")
    top.add_argument("--tasks", type=_names, metavar="qa,caption/short", help="families or tasks (default: all)")
    top.add_argument("--seed", type=int, default=0, help="of phrasings and of the language model (default: 0)")
    top.add_argument("--blocked", type=Path, metavar="FILE", help="further phrases that no sample may have, one a line")
    llm = top.add_argument_group("llm")
    add_server_arguments(llm)
    llm.add_argument("--judge", metavar="MODEL", help="a second model on the server that checks every sample")
    semi = top.add_argument_group("semi and auto")
    semi.add_argument(
        "--review",
        type=Path,
        metavar="FILE",
        help="CSV or JSONL: written first, then edited by you, then merged (auto: what is doubtful)",
    )
    semi.add_argument("--captioner", metavar="MODEL", help="preset or checkpoint that proposes captions")
    top.add_argument("--ray", metavar="ADDRESS", help="spread the work over a Ray cluster; `local` starts one here")
    return top


def add_server_arguments(group: argparse._ActionsContainer) -> None:
    """Adds the options of a language model behind a server."""
    group.add_argument(
        "--base-url", metavar="URL", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
    )
    group.add_argument("--model", help="the model's name on the server")
    group.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable with the key, if the server needs one (default: OPENAI_API_KEY)",
    )
    group.add_argument("--concurrency", type=int, default=64, metavar="N", help="requests in flight (default: 64)")
    group.add_argument("--rate", type=float, metavar="R", help="requests a second at most (default: no limit)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    options = parser().parse_args(argv)
    try:
        config = GeneratorConfig(**{f.name: getattr(options, f.name) for f in fields(GeneratorConfig)})
        # Imported here, so that --help needs no extra and a missing one is named in one line.
        from data_gen.run import make_instructions

        make_instructions(options, config)
    except VideoLLMError as error:
        print(f"make_instructions: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (message := explain_missing(error)) is None:
            raise
        print(f"make_instructions: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_instructions: stopped; the same command continues from here", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells report it
    return 0


if __name__ == "__main__":
    sys.exit(main())
