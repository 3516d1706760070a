"""The `videollm` command: one module a group of commands, each of which registers the arguments of its own commands.

Functions import what they run when they run. `videollm --help` thus loads neither torch nor transformers and prints
within a fraction of a second.
"""

from videollm.cli.main import main

__all__ = ["main"]
