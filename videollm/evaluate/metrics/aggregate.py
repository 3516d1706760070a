"""From rows of scores, one an item, to a number and its confidence interval.

Most metrics are the mean of their rows, some their median. The others have rows of statistics, of whose sum one number
is made. n is the number of items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from videollm.evaluate.metrics.bleu import ORDERS, bleu_of

Rows = np.ndarray  # float (n,), or (n,s) where a metric has s statistics an item

RESAMPLES = 1000
LEVEL = 0.95


def _f1(rows: Rows) -> float:
    """rows (n,3): right ones found, ones found, right ones."""
    hits, found, right = rows.sum(0)
    return float(2 * hits / (found + right)) if found + right else 0.0


_MEDIANS = ("MdR", "MdR_video")
_OF_SUMS: dict[str, Callable[[Rows], float]] = {f"BLEU{n}": (lambda rows, n=n: bleu_of(rows, n)) for n in ORDERS} | {
    "f1_yes": _f1
}


def value_of(metric: str, rows: Rows) -> float:
    """The number that rows (n,...) without NaN make, NaN for none."""
    if not len(rows):
        return float("nan")
    if metric in _MEDIANS:
        return float(np.median(rows))
    return _OF_SUMS[metric](rows) if metric in _OF_SUMS else float(rows.mean())


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, the bounds of its LEVEL confidence interval, and how many items and clusters it comes from."""

    value: float
    low: float
    high: float
    items: int
    clusters: int


def interval(metric: str, rows: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Percentile bootstrap (Efron 1979) over clusters: items of one video are drawn together, for they are not
    independent. Rows with NaN are left out."""
    there = _known(rows)
    rows, groups = rows[there], _groups([clusters[i] for i in there])
    low, high = _bounds(_resampled(metric, rows, groups, seed))
    return Interval(value_of(metric, rows), low, high, len(rows), len(groups))


def difference(metric: str, a: Rows, b: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Of b over a on the same items, in the same order; both are drawn together."""
    there = _known(a, b)
    groups = _groups([clusters[i] for i in there])
    values = [_resampled(metric, side[there], groups, seed) for side in (a, b)]  # one seed: the same draws
    low, high = _bounds(values[1] - values[0])
    value = value_of(metric, b[there]) - value_of(metric, a[there])
    return Interval(value, low, high, len(there), len(groups))


def _resampled(metric: str, rows: Rows, groups: list[np.ndarray], seed: int) -> np.ndarray:
    """Values of RESAMPLES samples of as many groups, drawn with replacement; none where there are not two groups."""
    if len(groups) < 2:
        return np.empty(0)
    draws = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    if metric in _MEDIANS:
        return np.array([np.median(rows[np.concatenate([groups[g] for g in draw])]) for draw in draws])
    sums, sizes = np.array([rows[g].sum(0) for g in groups]), np.array([len(g) for g in groups])
    drawn = sums[draws].sum(1)
    if metric in _OF_SUMS:
        return np.array([_OF_SUMS[metric](total[None]) for total in drawn])
    return drawn / sizes[draws].sum(1)


def _known(*sides: Rows) -> list[int]:
    """The numbers of the rows that hold no NaN on any side."""
    missing = np.zeros(len(sides[0]), bool)
    for rows in sides:
        missing |= np.isnan(rows.reshape(len(rows), -1)).any(axis=1)
    return np.flatnonzero(~missing).tolist()


def _groups(names: Sequence[str]) -> list[np.ndarray]:
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(name, []).append(number)
    return [np.array(numbers) for numbers in found.values()]


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """NaN where one cluster or none leaves nothing to draw."""
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
