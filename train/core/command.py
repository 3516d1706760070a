"""The command line of every training script: `RECIPE --field value ...`, with an option for each field of a recipe."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from train.configs.base import Recipe, leaves
from train.core.arguments import deepspeed_config
from videollm.errors import VideoLLMError

R = TypeVar("R", bound=Recipe)


def parse(recipes: Mapping[str, R], about: str, argv: Sequence[str] | None = None) -> R:
    """Returns the recipe that the command line names, with the fields that it changes.

    Options are written with hyphens or underscores, and may name the part of the recipe that has the field:
    `--learning-rate`, `--learning_rate` and `--optimizer.learning_rate` are the same option. Exits with 2 on a bad
    value, and with 0 after `--print-config`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    shown = recipes[next((word for word in words if word in recipes), next(iter(recipes)))]
    parser = argparse.ArgumentParser(
        description=f"{about} The defaults below are those of recipe {shown.name}.",
        epilog=f"recipes: {', '.join(recipes)}",
    )
    parser.add_argument("recipe", choices=recipes, metavar="RECIPE", help="one of the recipes listed at the end")
    parser.add_argument("--print-config", action="store_true", help="print the resulting configuration and exit")
    parser.add_argument("--local-rank", type=int, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    parts = {f.name: part for part, f, _ in leaves(shown)}
    words = [_plain(word, parts) for word in words]
    groups: dict[str, Any] = {}
    for part, f, default in leaves(shown):
        group = groups.setdefault(part, parser.add_argument_group(part) if part not in groups else None)
        text = f"{f.metadata['help']} (default: {str(default) or repr('')})".replace("%", "%%")
        group.add_argument(f"--{f.name.replace('_', '-')}", dest=f.name, help=text, **_option(f.type))
    values = vars(parser.parse_args(words))
    name, print_config = values.pop("recipe"), values.pop("print_config")
    values.pop("local_rank")
    try:
        chosen = recipes[name].changed(**{k: v for k, v in values.items() if v is not None})
    except VideoLLMError as error:
        parser.error(str(error))
    if print_config:
        print(json.dumps({**asdict(chosen), "deepspeed": deepspeed_config(chosen)}, indent=2))
        sys.exit(0)
    return chosen


def run(train: Callable[[R], object], recipe: R) -> None:
    """Trains. Exits with 2 and one line if the recipe's files or values cannot be used, or an extra is missing.

    The extra is checked first, because the loss curve that needs it is drawn at the end of a run.
    """
    try:
        if find_spec("matplotlib") is None:
            raise VideoLLMError("matplotlib is not installed; install the extra with pip install 'videollm[train]'")
        train(recipe)
    except VideoLLMError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def _plain(word: str, parts: Mapping[str, str]) -> str:
    """Returns an option in its plain form, `--learning-rate`, and other words as they are. `parts` has the part of
    each field."""
    if not word.startswith("--"):
        return word
    option, equals, value = word.partition("=")
    part, _, name = option[2:].replace("-", "_").rpartition(".")
    if part and parts.get(name) != part:
        return word
    return f"--{name.replace('_', '-')}{equals}{value}"


def _option(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"choices": [choice for choice in get_args(kind) if choice], "type": str}
    if get_origin(kind) is UnionType:
        kind = next(k for k in get_args(kind) if k is not type(None))
    return {"type": _switch, "metavar": "true|false"} if kind is bool else {"type": kind, "metavar": kind.__name__}


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"
