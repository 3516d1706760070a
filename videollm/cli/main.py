"""Parses the command line, runs one command and turns errors into messages.

Exit codes: 0 on success, 2 for bad input (with one line on stderr), 1 for an internal error (with a traceback).
"""

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from videollm.cli import chat, checkpoints, data, live, mcp, programs, reel, search, senses, video
from videollm.errors import VideoLLMError, printable, reason_of
from videollm.extras import explain_missing

GROUPS = (
    video,
    chat,
    live,
    search,
    reel,
    senses,
    data,
    checkpoints,
    mcp,
    programs,
)  # in the order of `videollm --help`


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all other errors of the program, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of every command, without importing what the commands run."""
    parser = OneLineParser(prog="videollm", description="Chat with, caption, search and train on video.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. argv: the arguments after the program's name, sys.argv's if None."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    # Libraries address these messages to developers who call them. Users of a command can do nothing about them.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # read when it is imported
    warnings.filterwarnings("ignore", category=FutureWarning)
    # Names of files and lines of users need not be text of the terminal's encoding.
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return 141  # 128 + SIGPIPE: whoever read the output has seen enough, as with `| head`
    except OSError as error:
        _drop_output()
        where = f"{printable(str(error.filename))}: " if error.filename is not None else ""
        print(f"videollm: {where}{reason_of(error)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"videollm: there is not enough memory ({reason_of(error)})", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    try:
        # Programs parse their own arguments. argparse.REMAINDER would not do: it still claims a leading `--help`.
        if arguments and arguments[0] in programs.PROGRAMS:
            programs.PROGRAMS[arguments[0]](arguments[1:])
        else:
            options = build_parser().parse_args(arguments)
            options.run(options)
    except VideoLLMError as error:
        print(f"videollm: {printable(str(error))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (message := explain_missing(error)) is None:
            raise
        print(f"videollm: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells report it
    return 0


def _drop_output() -> None:
    """Discards what could not be written, which Python would otherwise try to write again when it ends."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
