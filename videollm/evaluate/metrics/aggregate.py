"""From rows of scores, one an item, to a number and its confidence interval.

Most metrics are the mean of their rows. The others have rows of statistics, of which one number is made. n is the
number of items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from videollm.evaluate.metrics.bleu import ORDERS, bleu_of

Rows = np.ndarray  # float (n,), or (n,s) where a metric has s statistics an item

RESAMPLES = 1000
LEVEL = 0.95


def _median(rows: Rows) -> float:
    return float(np.median(rows))


def _f1(rows: Rows) -> float:
    """rows (n,3): right ones found, ones found, right ones."""
    hits, found, right = rows.sum(0)
    return float(2 * hits / (found + right)) if found + right else 0.0


_OTHERS: dict[str, Callable[[Rows], float]] = {f"BLEU{n}": (lambda rows, n=n: bleu_of(rows, n)) for n in ORDERS} | {
    "f1_yes": _f1,
    "MdR": _median,
    "MdR_video": _median,
}


def value_of(metric: str, rows: Rows) -> float:
    """The number that rows (n,...) without NaN make, NaN for none."""
    if not len(rows):
        return float("nan")
    return _OTHERS[metric](rows) if metric in _OTHERS else float(rows.mean())


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
    rows, names = known(rows, clusters)
    groups = _groups(names)
    values = [value_of(metric, rows[drawn]) for drawn in resamples(groups, seed)] if len(groups) > 1 else []
    low, high = _bounds(values)
    return Interval(value_of(metric, rows), low, high, len(rows), len(groups))


def difference(metric: str, a: Rows, b: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Of b over a on the same items, in the same order; both are drawn together."""
    together = np.concatenate([_wide(a), _wide(b)], axis=1)
    both, names = known(together, clusters)
    width = both.shape[1] // 2

    def of(rows: Rows) -> float:
        first, second = (rows[:, 0], rows[:, 1]) if width == 1 else (rows[:, :width], rows[:, width:])
        return value_of(metric, second) - value_of(metric, first)

    groups = _groups(names)
    values = [of(both[drawn]) for drawn in resamples(groups, seed)] if len(groups) > 1 else []
    low, high = _bounds(values)
    return Interval(of(both), low, high, len(both), len(groups))


def resamples(groups: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """RESAMPLES times the numbers of the rows of as many groups, drawn with replacement."""
    draws = np.random.default_rng(seed).integers(len(groups), size=(RESAMPLES, len(groups)))
    return [np.concatenate([groups[g] for g in draw]) for draw in draws]


def known(rows: Rows, clusters: Sequence[str]) -> tuple[Rows, list[str]]:
    """The rows that hold no NaN, and their clusters."""
    kept = np.flatnonzero(~np.isnan(_wide(rows)).any(axis=1))
    return rows[kept], [clusters[i] for i in kept.tolist()]


def _wide(rows: Rows) -> Rows:
    return rows.reshape(len(rows), -1)


def _groups(names: Sequence[str]) -> list[np.ndarray]:
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(name, []).append(number)
    return [np.array(numbers) for numbers in found.values()]


def _bounds(values: list[float]) -> tuple[float, float]:
    """NaN where one cluster or none leaves nothing to draw."""
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
