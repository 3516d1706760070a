"""Confidence intervals by percentile bootstrap (Efron 1979) over clusters: what is about one video is drawn together,
for it is not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, the bounds of its LEVEL confidence interval, and how many items and clusters it comes from. The bounds
    are NaN where one cluster or none leaves nothing to draw."""

    value: float
    low: float
    high: float
    items: int
    clusters: int


def groups_of(clusters: Sequence[str]) -> list[np.ndarray]:
    """The numbers of the items of each cluster."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(clusters):
        found.setdefault(name, []).append(number)
    return [np.array(numbers) for numbers in found.values()]


def draws(groups: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """(RESAMPLES,g) numbers of groups, drawn with replacement; none where there are not two groups."""
    count = RESAMPLES if len(groups) > 1 else 0
    return np.random.default_rng(seed).integers(len(groups) or 1, size=(count, len(groups)))


def sums(rows: np.ndarray, groups: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """(RESAMPLES,...) of rows (n,...)."""
    return np.array([rows[g].sum(0) for g in groups])[drawn].sum(1)


def means(rows: np.ndarray, groups: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """(RESAMPLES,) of rows (n,)."""
    return sums(rows, groups, drawn) / np.array([len(g) for g in groups])[drawn].sum(1)


def bounds(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float] | np.ndarray, clusters: Sequence[str]) -> Interval:
    """Of the mean of values (n,); of paired differences it is the interval of the difference of means."""
    rows, groups = np.asarray(values, float), groups_of(clusters)
    low, high = bounds(means(rows, groups, draws(groups)))
    return Interval(float(rows.mean()), low, high, len(rows), len(groups))
