"""`RECIPE --field value ...`: the command line of any program whose settings are one frozen dataclass."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from videollm.errors import VideoLLMError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


def parse(
    recipes: Mapping[str, R],
    about: str,
    argv: Sequence[str] | None = None,
    *,
    fixed: Sequence[str] = ("name",),
    meanings: Mapping[str, str] = MappingProxyType({}),
    shown: Callable[[R], dict[str, Any]] = asdict,
) -> R:
    """Every field is an option, but for those that are `fixed`. meanings: what `--help` says of a field beside its
    default; shown: what `--print-config` prints. Exits with 2 on a bad value, with 0 after `--print-config`."""
    argv = sys.argv[1:] if argv is None else argv
    usual = next((word for word in argv if word in recipes), next(iter(recipes)))
    parser = argparse.ArgumentParser(
        description=f"{about} Defaults below are those of {usual}.",
        epilog=f"recipes: {', '.join(recipes)}",
    )
    parser.add_argument("recipe", choices=recipes, metavar="RECIPE", help="see the end of this page")
    parser.add_argument("--print-config", action="store_true", help="show what the run would be, and stop")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # given by the deepspeed launcher
    for f in fields(recipes[usual]):
        if f.name not in fixed:
            default = str(getattr(recipes[usual], f.name)) or '""'
            text = f"{meanings.get(f.name, '')} (default: {default})".strip().replace("%", "%%")
            parser.add_argument(f"--{f.name.replace('_', '-')}", dest=f.name, help=text, **_option(f.type))
    values = vars(parser.parse_args(argv))
    name, show = values.pop("recipe"), values.pop("print_config")
    values.pop("local_rank")
    try:
        chosen = replace(recipes[name], **{k: v for k, v in values.items() if v is not None})
    except VideoLLMError as error:
        parser.error(str(error))
    if show:
        print(json.dumps(shown(chosen), indent=2))
        sys.exit(0)
    return chosen


def run(train: Callable[[R], object], recipe: R) -> None:
    """Exits with 2 and one line where the recipe's files or values cannot be used, or the extra is not installed: else
    a run that draws its curve at its end would notice only then."""
    try:
        if find_spec("matplotlib") is None:
            raise VideoLLMError("matplotlib is not installed; it comes with pip install 'videollm[train]'")
        train(recipe)
    except VideoLLMError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def _option(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if get_origin(kind) is UnionType:
        kind = next(k for k in get_args(kind) if k is not type(None))
    return {"type": _switch, "metavar": "true|false"} if kind is bool else {"type": kind, "metavar": kind.__name__}


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"
