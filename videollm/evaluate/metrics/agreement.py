"""How far two graders of the same things agree."""

from collections.abc import Sequence

import numpy as np


def cohen_kappa(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Agreement beyond what their shares of yes make by chance (Cohen 1960); NaN where both always say the same."""
    first, second = np.array(a, float), np.array(b, float)
    observed = float((first == second).mean())
    p, q = first.mean(), second.mean()
    expected = float(p * q + (1 - p) * (1 - q))
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """NaN where one of them never varies."""
    first, second = np.array(a, float), np.array(b, float)
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal values share the mean of their ranks."""
    array = np.array(values, float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return ((last - (counts - 1) / 2)[inverse]).tolist()
