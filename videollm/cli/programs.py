"""Commands that parse their own arguments: `serve`, which is another program, and `eval`."""

import os
import sys
from typing import NoReturn

from videollm.cli.options import Commands


def serve(arguments: list[str]) -> NoReturn:
    """Replaces this process by the server.

    A new process, because the library may not import the applications built on it.
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", "serve", *arguments])


def evaluate(arguments: list[str]) -> None:
    """Runs `videollm eval`, whose arguments depend on tasks and data sets that only the evaluation knows."""
    from videollm.evaluate.command import main

    main(arguments)


PROGRAMS = {"serve": serve, "eval": evaluate}


def register(commands: Commands) -> None:
    # `main` dispatches these before it parses. They are here so that `videollm --help` lists them.
    commands.add_parser("serve", help="serve a model over an OpenAI-style HTTP API, with a web page", add_help=False)
    commands.add_parser("eval", help="score a model on local data, with intervals and controls", add_help=False)
