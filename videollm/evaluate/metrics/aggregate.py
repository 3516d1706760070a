"""Turns rows of scores, one an item, into the value of a metric and its confidence interval.

The value of most metrics is the mean of their rows. Metrics of a whole corpus, such as BLEU, have rows of statistics:
their value is a function of the sum of the rows. That of a few, such as a median, is a function of all rows.

Shapes: n items, s statistics, g groups.
"""

from collections.abc import Callable, Sequence

import numpy as np

from videollm.evaluate.metrics.bleu import ORDERS, bleu_of
from videollm.evaluate.metrics.bootstrap import Interval, bounds, draws, groups_of, means, sums

Rows = np.ndarray  # float (n,), or (n,s) for metrics with statistics; NaN for items without a score


def _f1(rows: Rows) -> float:
    """Returns the F1 score from rows (n,3) of true positives, predicted positives and actual positives."""
    hits, predicted, actual = rows.sum(0)
    return float(2 * hits / (predicted + actual)) if predicted + actual else 0.0


def _mean_class(rows: Rows) -> float:
    """Returns the accuracy averaged over the classes, from rows (n,2) of the number of an item's class, and whether its
    answer is right."""
    classes, right = rows.T
    counts = np.bincount(classes.astype(int))
    return float((np.bincount(classes.astype(int), right)[counts > 0] / counts[counts > 0]).mean())


_OF_ROWS: dict[str, Callable[[Rows], float]] = {
    "MdR": lambda rows: float(np.median(rows)),
    "MdR_video": lambda rows: float(np.median(rows)),
    "mean_class": _mean_class,
}
# n=n binds the order now: a plain closure would see the last n of the loop.
_OF_SUMS: dict[str, Callable[[Rows], float]] = {f"BLEU{n}": (lambda rows, n=n: bleu_of(rows, n)) for n in ORDERS} | {
    "f1_yes": _f1
}


def value_of(metric: str, rows: Rows) -> float:
    """Returns the value of a metric from rows (n,...) without NaN. It is NaN if there are no rows."""
    if not len(rows):
        return float("nan")
    if metric in _OF_ROWS:
        return _OF_ROWS[metric](rows)
    return _OF_SUMS[metric](rows) if metric in _OF_SUMS else float(rows.mean())


def interval(metric: str, rows: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Returns the value of a metric and its confidence interval.

    Args:
        metric: The name of the metric.
        rows: Its rows. Rows with NaN are left out.
        clusters: The name of the cluster of each row, such as its video; see `bootstrap`.
        seed: The seed of the bootstrap.
    """
    there = _known(rows)
    rows, groups = rows[there], groups_of([clusters[i] for i in there])
    low, high = bounds(_resampled(metric, rows, groups, seed))
    return Interval(value_of(metric, rows), low, high, len(rows), len(groups))


def difference(metric: str, a: Rows, b: Rows, clusters: Sequence[str], seed: int = 0) -> Interval:
    """Returns the difference b - a of a metric and its confidence interval.

    The rows of a and b belong to the same items in the same order, and are resampled together. The interval is
    narrower than that of unpaired samples, because the difficulty of the items cancels.
    """
    there = _known(a, b)
    groups = groups_of([clusters[i] for i in there])
    values = [_resampled(metric, side[there], groups, seed) for side in (a, b)]  # the same seed gives the same samples
    low, high = bounds(values[1] - values[0])
    value = value_of(metric, b[there]) - value_of(metric, a[there])
    return Interval(value, low, high, len(there), len(groups))


def _resampled(metric: str, rows: Rows, groups: list[np.ndarray], seed: int) -> np.ndarray:
    """Returns the values (RESAMPLES,) of the metric on samples of g groups, or (0,) for fewer than two groups.

    Some metrics need the rows of each sample. Others only need sums of groups, which are computed once.
    """
    drawn = draws(groups, seed)
    if not len(drawn):
        return np.empty(0)
    if metric in _OF_ROWS:
        return np.array([_OF_ROWS[metric](rows[np.concatenate([groups[g] for g in draw])]) for draw in drawn])
    if metric in _OF_SUMS:
        return np.array([_OF_SUMS[metric](total[None]) for total in sums(rows, groups, drawn)])
    return means(rows, groups, drawn)


def _known(*sides: Rows) -> list[int]:
    """Returns the positions of the rows that have no NaN on any side."""
    missing = np.zeros(len(sides[0]), bool)
    for rows in sides:
        missing |= np.isnan(rows.reshape(len(rows), -1)).any(axis=1)
    return np.flatnonzero(~missing).tolist()
