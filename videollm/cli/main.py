"""Parses the command line, runs one command and turns errors into messages.

Exit codes: 0 on success, 2 for bad input (with one line on stderr), 1 for an internal error (with a traceback).
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

from videollm.cli import chat, checkpoints, data, programs, search, senses, video
from videollm.errors import VideoLLMError
from videollm.extras import explain_missing

GROUPS = (video, chat, search, senses, data, checkpoints, programs)  # in the order of `videollm --help`


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of every command, without importing what the commands run."""
    parser = argparse.ArgumentParser(prog="videollm", description="Chat with, caption, search and train on video.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. argv: the arguments after the program's name, sys.argv's if None."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # Libraries address these messages to developers who call them. Users of a command can do nothing about them.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        # Programs parse their own arguments. argparse.REMAINDER would not do: it still claims a leading `--help`.
        if arguments and arguments[0] in programs.PROGRAMS:
            programs.PROGRAMS[arguments[0]](arguments[1:])
        else:
            options = build_parser().parse_args(arguments)
            options.run(options)
    except VideoLLMError as error:
        print(f"videollm: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (message := explain_missing(error)) is None:
            raise
        print(f"videollm: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells report it
    return 0
