"""`RECIPE --field value ...`: the command line of any program whose settings are one frozen dataclass."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

from videollm.errors import VideoLLMError

R = TypeVar("R")


def parse(recipes: Mapping[str, R], about: str, argv: Sequence[str] | None = None) -> R:
    """Every field is an option. Exits with 2 on a bad value, with 0 after `--print-config`."""
    kind = type(next(iter(recipes.values())))
    parser = argparse.ArgumentParser(
        description=about, epilog="Defaults are those of the fields; a recipe may state others: see --print-config."
    )
    parser.add_argument("recipe", choices=recipes, metavar="RECIPE", help=f"one of {', '.join(recipes)}")
    parser.add_argument("--print-config", action="store_true", help="show the recipe with its changes and stop")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    for f in fields(kind):  # pyright: ignore[reportArgumentType]
        if f.name != "name":
            parser.add_argument(f"--{f.name.replace('_', '-')}", dest=f.name, **_option(f))
    values = vars(parser.parse_args(argv))
    name, show = values.pop("recipe"), values.pop("print_config")
    values.pop("local_rank")
    try:
        chosen = replace(recipes[name], **{k: v for k, v in values.items() if v is not None})  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType]
    except VideoLLMError as error:
        parser.error(str(error))
    if show:
        print(json.dumps(asdict(chosen), indent=2))  # pyright: ignore[reportArgumentType]
        sys.exit(0)
    return chosen


def run(train: Callable[[R], object], recipe: R) -> None:
    """Exits with 2 and one line where the recipe's files or values cannot be used."""
    try:
        train(recipe)
    except VideoLLMError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def _option(field: Field[Any]) -> dict[str, Any]:
    kind, default = field.type, "set by the recipe" if field.default is MISSING else field.default
    about = {"help": f"default: {default!r}".replace("%", "%%")}
    if get_origin(kind) is Literal:
        return about | {"choices": get_args(kind)}
    if get_origin(kind) is UnionType:
        kind = next(k for k in get_args(kind) if k is not type(None))
    return about | ({"type": _switch, "metavar": "true|false"} if kind is bool else {"type": kind})


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"
