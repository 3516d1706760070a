"""The lines and the JSON of text files that people, spreadsheets and other programs wrote.

Everything that reads rows or predictions reads them here, so that a file which one command accepts is accepted by all.
"""

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from videollm.errors import DataError, reason_of

_WIDE = (b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-16
MAX_DEPTH = 64  # of lists and objects in JSON
MAX_INTEGER = 2**63  # in JSON


def read_text(path: str | os.PathLike[str]) -> str:
    """Returns the text of a file with lines that end with LF; see `lines`."""
    return "".join(f"{line}\n" for _, line in lines(path))


def decoded(data: bytes, where: object) -> str:
    """Returns a text that is UTF-8, or UTF-16 with a byte order mark. A mark is left out.

    Raises DataError, which begins with `where`, if the data is neither, or has a NUL character.
    """
    encoding = "utf-16" if data.startswith(_WIDE) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not {encoding.removesuffix('-sig').upper()} text ({error.reason})") from error
    if "\0" in text:
        raise DataError(f"{where} has a NUL character; remove it")
    return text


def split_lines(text: str) -> list[str]:
    r"""Returns the lines of a text, without their ends, which are \n, \r\n or \r.

    str.splitlines also splits at characters such as U+2028, which JSON allows inside a string.
    """
    found = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return found[:-1] if not found[-1] else found


def lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yields the lines of a text file with their numbers, from 1.

    The encoding is that of `decoded`, and lines end as in `split_lines`. Raises DataError, which names file and line,
    if the file cannot be read.
    """
    number = 0
    try:
        with open(path, "rb") as file:
            is_wide = file.read(2) in _WIDE
            file.seek(0)
            for raw in [file.read()] if is_wide else file:  # may hold several lines that end with CR
                for line in split_lines(decoded(raw, f"{path}, row {number + 1}")):
                    number += 1
                    yield number, line
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {reason_of(error)}") from error


def parse_json(text: str) -> Any:
    """Returns a JSON value. Raises DataError, which says what is wrong, if the text is not JSON, or if it is nested
    deeper than `MAX_DEPTH`, or has a lone surrogate or a number beyond the range of computers."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
    except RecursionError as error:
        raise DataError(f"it is nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error}") from error
    if "\\ud" in text.lower() and _has_surrogate(text):
        raise DataError("it has half of a surrogate pair, such as \\ud83d without its second half; write it whole")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise DataError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def _no_constant(name: str) -> Any:
    raise DataError(f"not JSON: {name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise DataError(f"the number {text[:20]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > len(str(MAX_INTEGER)) + 1 or abs(value := int(text)) > MAX_INTEGER:
        raise DataError(f"the number {text[:20]}... is too large")
    return value


def _has_surrogate(text: str) -> bool:
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _depth(value: Any) -> int:
    """Returns how deep lists and objects are nested; 0 for other values."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        level = [x for v in level for x in (v.values() if isinstance(v, dict) else v)]
        depth += 1
    return depth
