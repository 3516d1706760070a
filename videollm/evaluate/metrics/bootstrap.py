"""Confidence intervals by the percentile bootstrap (Efron 1979) over clusters.

Items about the same video are not independent, so that whole videos are resampled. Resampling items would give
intervals that are too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: The value on all items.
        low, high: The bounds of the interval at confidence `LEVEL`. NaN for fewer than two clusters, which cannot be
            resampled.
        items: The number of items.
        clusters: The number of clusters.
    """

    value: float
    low: float
    high: float
    items: int
    clusters: int


def groups_of(clusters: Sequence[str]) -> list[np.ndarray]:
    """Returns the positions of the items of each cluster, in the order in which the clusters first occur."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(clusters):
        found.setdefault(name, []).append(number)
    return [np.array(numbers) for numbers in found.values()]


def draws(groups: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """Returns the positions (RESAMPLES,g) of groups drawn with replacement, or (0,g) for fewer than two groups."""
    count = RESAMPLES if len(groups) > 1 else 0
    return np.random.default_rng(seed).integers(len(groups) or 1, size=(count, len(groups)))


def sums(rows: np.ndarray, groups: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """Returns the sums (RESAMPLES,...) of rows (n,...) over the items of each sample."""
    return np.array([rows[g].sum(0) for g in groups])[drawn].sum(1)


def means(rows: np.ndarray, groups: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """Returns the means (RESAMPLES,) of rows (n,) over the items of each sample, whose number varies."""
    return sums(rows, groups, drawn) / np.array([len(g) for g in groups])[drawn].sum(1)


def bounds(values: np.ndarray) -> tuple[float, float]:
    """Returns the bounds of the interval from the values of the samples, NaN for none."""
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float] | np.ndarray, clusters: Sequence[str]) -> Interval:
    """Returns the mean of values (n,) and its interval. For paired differences this is the difference of means."""
    rows, groups = np.asarray(values, float), groups_of(clusters)
    low, high = bounds(means(rows, groups, draws(groups)))
    return Interval(float(rows.mean()), low, high, len(rows), len(groups))
