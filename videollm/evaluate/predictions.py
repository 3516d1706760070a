"""Checks of predictions, which other programs may have made, before they are scored.

A prediction of another form would get a score that says nothing. Each task has a function that takes an item and its
prediction and returns the prediction as `Task.score` takes it. It raises DataError, which says what is allowed.
"""

import math
from collections.abc import Callable
from string import ascii_uppercase
from typing import Any

from videollm.datasets.item import Item, Prediction
from videollm.errors import DataError
from videollm.evaluate.metrics.answers import chosen_option


def checked(task: str, item: Item, prediction: Prediction) -> Prediction:
    """Returns a prediction of a task in the form that the task scores. Raises DataError if it has another form."""
    return _CHECKS.get(task, _as_it_is)(item, prediction)


def _as_it_is(_: Item, prediction: Prediction) -> Prediction:
    return prediction


def _field(prediction: Prediction, name: str, kind: type, form: str) -> Any:
    if name not in prediction:
        raise DataError(f"it has no {name!r}; write {form}")
    if not isinstance(prediction[name], kind):
        raise DataError(f"{name} is {prediction[name]!r:.40}; write {form}")
    return prediction[name]


def _answer(_: Item, prediction: Prediction) -> Prediction:
    _field(prediction, "answer", str, "a text, which may be empty")
    if "paraphrase" in prediction:
        _field(prediction, "paraphrase", str, "a text")
    return prediction


def _choices(item: Item, prediction: Prediction) -> Prediction:
    if "choice" not in prediction:
        raise DataError("it has no 'choice'; write the number of the option from 0, its letter or its text")
    named = (name for name in ("choice", "cloze") if prediction.get(name) is not None)  # None: the answer names none
    found = {name: _chosen(item, name, prediction[name]) for name in named}
    return prediction | found


def _chosen(item: Item, name: str, value: Any) -> int:
    """Returns the number of the option that a number from 0, a letter or a text names."""
    count, letters = len(item.choices), ascii_uppercase[: len(item.choices)]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    if isinstance(value, str) and (chosen := chosen_option(value, item.choices)) is not None:
        return chosen
    raise DataError(
        f"{name} is {value!r:.40}; write a number from 0 to {count - 1}, a letter from A to {letters[-1]}, or "
        "the text of one option"
    )


def _rows(prediction: Prediction, name: str, form: str, kinds: tuple[type, ...]) -> list[list[Any]]:
    """Returns a list of rows whose values have these kinds. Numbers must be finite."""
    rows = _field(prediction, name, list, f"a list of {form}, which may be empty")
    for row in rows:
        fits = isinstance(row, list) and len(row) >= len(kinds)
        if not fits or not all(_is_a(value, kind) for value, kind in zip(row, kinds, strict=False)):
            raise DataError(f"{name} has {row!r:.40}; each is {form}")
    return rows


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind)


def _spans(prediction: Prediction, name: str, form: str, *last: type) -> None:
    for start_s, end_s, *_ in _rows(prediction, name, form, (float, float, *last)):
        if not 0 <= start_s <= end_s:
            raise DataError(f"{name} has a part from {start_s} to {end_s}; it must be 0 <= start <= end")


def _dense(_: Item, prediction: Prediction) -> Prediction:
    _spans(prediction, "captions", "[start, end, text]", str)
    return prediction


def _grounding(_: Item, prediction: Prediction) -> Prediction:
    _spans(prediction, "spans", "[start, end, score]", float)
    return prediction


def _summary(item: Item, prediction: Prediction) -> Prediction:
    if "parts" in prediction:
        _spans(prediction, "parts", "[start, end, text]")
    return _answer(item, prediction)


def _labels(item: Item, prediction: Prediction) -> Prediction:
    for label, *_ in _rows(prediction, "labels", "[label, probability], the best first", (str, float)):
        if label not in item.choices:
            raise DataError(f"labels has {label[:40]!r}, which is no label of the data")
    return prediction


def _scores(_: Item, prediction: Prediction) -> Prediction:
    for score in _field(prediction, "scores", list, "a list with the score of each video of the data"):
        if not _is_a(score, float):
            raise DataError(f"scores has {score!r:.40}; each is a number")
    return prediction


_CHECKS: dict[str, Callable[[Item, Prediction], Prediction]] = {
    "caption": _answer,
    "classify": _labels,
    "dense": _dense,
    "grounding": _grounding,
    "live": _choices,
    "mcqa": _choices,
    "openqa": _answer,
    "retrieval": _scores,
    "summary": _summary,
}
