"""Measures of the agreement of two graders of the same items."""

from collections.abc import Sequence

import numpy as np


def cohen_kappa(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Cohen's kappa, (p_o - p_e) / (1 - p_e): the observed agreement p_o beyond the agreement p_e that is expected by
    chance (Cohen 1960, "A coefficient of agreement for nominal scales"). NaN if both always give the same answer."""
    first, second = np.array(a, float), np.array(b, float)
    observed = float((first == second).mean())
    p, q = first.mean(), second.mean()
    expected = float(p * q + (1 - p) * (1 - q))
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation coefficient. NaN if one of the sequences is constant."""
    first, second = np.array(a, float), np.array(b, float)
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation coefficient. NaN if one of the sequences is constant."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Sequence[float]) -> list[float]:
    """Returns the rank of each value, from 1. Equal values share the mean of their ranks."""
    array = np.array(values, float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return ((last - (counts - 1) / 2)[inverse]).tolist()
