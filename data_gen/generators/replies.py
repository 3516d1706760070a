"""The replies that prompts ask for, and how they are read.

A server that supports JSON Schema replies exactly. Replies of other servers are read leniently, because small models
rarely write valid JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import json_repair

TEXT = {"type": "string"}
LINES = {"type": "array", "items": {"type": "integer"}}


class ReplyError(ValueError):
    """A reply that cannot be used. The message goes to the model, which is asked again, and to the datasheet."""


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """The form of a reply.

    Args:
        schema: JSON Schema of the reply.
        read: Returns the entries of a parsed reply. It leaves out malformed entries and raises ReplyError if no entry
            remains.
    """

    schema: Mapping[str, Any]
    read: Callable[[dict[str, Any]], list[dict[str, Any]]]


def parse(reply_format: ReplyFormat, text: str) -> list[dict[str, Any]]:
    """Returns the entries of a reply. Raises ReplyError if there are none.

    JSON is found among other words and repaired (missing brackets, single quotes). Questions and answers are also read
    from lines that begin with Q: and A:, as small models write them.
    """
    values: dict[str, Any] | list[Any] | None = _json(text)
    if values is None and "question" in _item_fields(reply_format.schema) and (spoken := _SPOKEN.findall(text)):
        values = {"items": [{"question": question, "answer": answer} for question, answer in spoken]}
    if values is None and set(reply_format.schema["properties"]) == {"text"} and "{" not in text:
        values = {"text": text.strip().strip('"')}
    if values is None:
        raise ReplyError("the reply has no JSON object")
    if isinstance(values, list):  # the list without the object around it; the format decides which name applies
        values = {"items": values, "texts": values}
    return reply_format.read(values)


_SPOKEN = re.compile(r"^\W*(?:Q|Question)\s*\d*\W*\s(.+?)\s*^\W*(?:A|Answer)\s*\d*\W*\s(.+?)\s*$", re.M | re.I | re.S)


def _json(text: str) -> dict[str, Any] | list[Any] | None:
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
        values = json_repair.loads(text[start:]) if start >= 0 else None
    return values if isinstance(values, dict | list) and values else None


def _item_fields(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema["properties"].get("items", {}).get("items", {}).get("properties", {})


def _object(**fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _array(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _text(values: Any, name: str) -> str:
    """A field as text; numbers are accepted. Raises ReplyError if it is missing, empty or of another type."""
    value = values.get(name) if isinstance(values, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or value.strip(". ") == "":
        raise ReplyError(f'"{name}" is missing or empty')
    return value.strip()


def _lines(values: dict[str, Any]) -> list[int]:
    lines = values.get("lines")
    return [n for n in lines if isinstance(n, int)] if isinstance(lines, list) else []


def _entries(values: dict[str, Any], read: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    items = values.get("items")
    if not isinstance(items, list):
        raise ReplyError('"items" is missing or not a list')
    made, reasons = [], []
    for item in items:
        try:
            made.append(read(item))
        except ReplyError as error:
            reasons.append(str(error))
    if reasons and not made:
        raise ReplyError(reasons[0])
    return made


def _question(item: Any) -> dict[str, Any]:
    return {"question": _text(item, "question"), "answer": _text(item, "answer"), "lines": _lines(item)}


def _choice(item: Any) -> dict[str, Any]:
    question, choices = _text(item, "question"), item.get("choices")
    if (
        not isinstance(choices, list)
        or len({str(choice).strip() for choice in choices}) != len(choices)
        or len(choices) < 2
    ):
        raise ReplyError('"choices" is not a list of different texts')
    choices = [re.sub(r"^[A-Da-d][.):]\s+", "", str(choice).strip()) for choice in choices]
    return {"question": question, "choices": choices, "correct": _correct(item, choices), "lines": _lines(item)}


def _correct(item: dict[str, Any], choices: list[str]) -> int:
    """The index of the right choice, which the item gives as a number, a letter or the text of the choice."""
    correct = item.get("correct", item.get("answer"))
    if isinstance(correct, str):
        correct = correct.strip()
        if correct in choices:
            return choices.index(correct)
        letter = correct[:1].upper()
        correct = ascii_uppercase.index(letter) if letter and letter in ascii_uppercase else correct
        if isinstance(correct, str) and correct.isdigit():
            correct = int(correct)
    if not isinstance(correct, int) or isinstance(correct, bool) or not 0 <= correct < len(choices):
        raise ReplyError(f'"correct" is {correct!r}; it must count the choices from 0')
    return correct


def _dense(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict) or not isinstance(item.get("line"), int):
        raise ReplyError('"line" is missing or not a number')
    return {"line": item["line"], "text": _text(item, "text")}


def _turns(values: dict[str, Any]) -> list[dict[str, Any]]:
    turns = _entries(values, _question)
    if len(turns) < 2:
        raise ReplyError("a conversation needs two turns or more")
    return turns


def _texts(values: dict[str, Any]) -> list[dict[str, Any]]:
    texts = values.get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ReplyError('"texts" is missing or not a list of texts')
    return [{"text": text.strip()} for text in texts]


def _verdict(values: dict[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(values.get("good"), bool):
        raise ReplyError('"good" is not true or false')
    return [{"good": values["good"], "reason": str(values.get("reason") or "no reason given")}]


REPLY_FORMATS = {
    "qa": ReplyFormat(
        _object(items=_array(_object(question=TEXT, answer=TEXT, lines=LINES))), lambda v: _entries(v, _question)
    ),
    "choice": ReplyFormat(
        _object(items=_array(_object(question=TEXT, choices=_array(TEXT), correct={"type": "integer"}, lines=LINES))),
        lambda v: _entries(v, _choice),
    ),
    "turns": ReplyFormat(_object(items=_array(_object(question=TEXT, answer=TEXT))), _turns),
    "text": ReplyFormat(_object(text=TEXT), lambda v: [{"text": _text(v, "text")}]),
    "creative": ReplyFormat(
        _object(instruction=TEXT, text=TEXT),
        lambda v: [{"instruction": _text(v, "instruction"), "text": _text(v, "text")}],
    ),
    "dense": ReplyFormat(
        _object(items=_array(_object(line={"type": "integer"}, text=TEXT))), lambda v: _entries(v, _dense)
    ),
    "translation": ReplyFormat(_object(texts=_array(TEXT)), _texts),
    "verdict": ReplyFormat(_object(good={"type": "boolean"}, reason=TEXT), _verdict),
}
