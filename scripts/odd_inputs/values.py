"""Odd values, and JSON values of which a part was replaced by one."""

import copy
import random
from typing import Any

TEXTS = (
    *("", " ", "a", "A", "(B)", "0", "1e999", "nan", "null", "..", "/", "\\", "a" * 3000, "<video>", "<|im_end|>"),
    *("\x00", "\x85", "\u2028", "\ufeff", "\ud83d", "\U0001f600", "e\u0301", "हिन्दी", "ไทย", "\r", "\n", "=1+1"),
    *('"', "'", ",", "0:00", "00:00:01,5", "-1", "1.5", "٣", "data:,", "file:///etc/passwd", "http://127.0.0.1:1/x.mp4"),
)  # fmt: skip
NUMBERS = (0, 1, -1, 0.5, -0.0, 1e-320, 1e300, 2**31, 2**63, -(2**63), 2**70, float("nan"), float("inf"))


def odd(rng: random.Random, depth: int = 0) -> Any:
    """Returns a value that a field rarely expects."""
    kinds = ("text", "text", "number", "number", "constant", "list", "object", "deep")
    match rng.choice(kinds) if depth < 2 else "text":
        case "text":
            return rng.choice(TEXTS)
        case "number":
            return rng.choice(NUMBERS)
        case "constant":
            return rng.choice((None, True, False))
        case "list":
            return [odd(rng, depth + 1) for _ in range(rng.choice((0, 1, 3)))]
        case "object":
            return {rng.choice(TEXTS): odd(rng, depth + 1) for _ in range(rng.choice((0, 1, 3)))}
        case _:
            value: Any = "deep"
            for _ in range(rng.choice((10, 70))):
                value = [value]
            return value


def changed(value: Any, rng: random.Random, times: int) -> Any:
    """Returns a copy of a JSON value in which parts were replaced, left out, doubled or added, `times` times."""
    value = copy.deepcopy(value)
    for _ in range(times):
        places = [*_places(value)]
        if not places:
            return odd(rng)
        holder, key = rng.choice(places)
        match rng.choice(("replace", "replace", "replace", "remove", "add", "swap")):
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[rng.choice(TEXTS)] = odd(rng)
            case "add":
                holder.append(copy.deepcopy(holder[key]))
            case "swap":
                holder[key] = copy.deepcopy(rng.choice([h[k] for h, k in places]))
            case _:
                holder[key] = odd(rng)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Returns every list or object in a value with each of its indexes or keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in [(value, key), *_places(value[key])]]
