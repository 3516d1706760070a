"""Checks of the values in configurations."""

import math
from typing import Any, get_args

from videollm.errors import ConfigError


def check(ok: bool, message: str) -> None:
    """Raises ConfigError with the message if a value is not allowed."""
    if not ok:
        raise ConfigError(message)


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raises ConfigError, which lists the choices of a Literal, for another value."""
    check(value in get_args(choices), f"{name} is {value!r}; choose one of {', '.join(get_args(choices))}")


def check_positive(**values: float | None) -> None:
    """Raises ConfigError for a value that is not above 0 or not finite. None is allowed."""
    for name, value in values.items():
        check(value is None or 0 < value < math.inf, f"{name} is {value}; it must be a number above 0")
