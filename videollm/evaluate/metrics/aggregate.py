"""From rows of scores, one an item, to a number and its confidence interval.

Most metrics are the mean of their rows, some their median. The others have rows of statistics, of whose sum one number
is made. n is the number of items.
"""

from collections.abc import Callable, Sequence

import numpy as np

from videollm.evaluate.metrics.bleu import ORDERS, bleu_of
from videollm.evaluate.metrics.bootstrap import Interval, bounds, draws, groups_of, means, sums

Rows = np.ndarray  # float (n,), or (n,s) where a metric has s statistics an item


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


def interval(metric: str, rows: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Rows with NaN are left out."""
    there = _known(rows)
    rows, groups = rows[there], groups_of([clusters[i] for i in there])
    low, high = bounds(_resampled(metric, rows, groups, seed))
    return Interval(value_of(metric, rows), low, high, len(rows), len(groups))


def difference(metric: str, a: Rows, b: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Of b over a on the same items, in the same order; both are drawn together."""
    there = _known(a, b)
    groups = groups_of([clusters[i] for i in there])
    values = [_resampled(metric, side[there], groups, seed) for side in (a, b)]  # one seed: the same draws
    low, high = bounds(values[1] - values[0])
    value = value_of(metric, b[there]) - value_of(metric, a[there])
    return Interval(value, low, high, len(there), len(groups))


def _resampled(metric: str, rows: Rows, groups: list[np.ndarray], seed: int) -> np.ndarray:
    """(RESAMPLES,) values of samples of as many groups; none where there are not two."""
    drawn = draws(groups, seed)
    if not len(drawn):
        return np.empty(0)
    if metric in _MEDIANS:
        return np.array([np.median(rows[np.concatenate([groups[g] for g in draw])]) for draw in drawn])
    if metric in _OF_SUMS:
        return np.array([_OF_SUMS[metric](total[None]) for total in sums(rows, groups, drawn)])
    return means(rows, groups, drawn)


def _known(*sides: Rows) -> list[int]:
    """The numbers of the rows that hold no NaN on any side."""
    missing = np.zeros(len(sides[0]), bool)
    for rows in sides:
        missing |= np.isnan(rows.reshape(len(rows), -1)).any(axis=1)
    return np.flatnonzero(~missing).tolist()
