"""Precision and recall of scored predictions over all thresholds.

Shapes: m predictions, t different scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall at each threshold, the highest first.

    Attributes:
        recall, precision: (t,), 0 to 1.
        positives: The number of what is to be found.
        predictions: The number of predictions.
    """

    recall: np.ndarray
    precision: np.ndarray
    positives: int
    predictions: int

    @property
    def average_precision(self) -> float:
        """The sum over thresholds of the precision times the growth of recall, without interpolation, as in
        scikit-learn. It is 0 if nothing is found."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())

    def at(self, recalls: np.ndarray) -> np.ndarray:
        """Returns the largest precision at which at least each recall is reached, 0 where none does (interpolated
        precision, as in Pascal VOC)."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        first = np.searchsorted(self.recall, recalls - 1e-12)
        return np.append(best, 0.0)[first]


def curve(scores: np.ndarray, right: np.ndarray, positives: int | None = None) -> Curve:
    """Returns the curve of predictions. Predictions of the same score pass a threshold together.

    Args:
        scores: (m,), higher for what is predicted with more confidence.
        right: bool (m,), which predictions are right.
        positives: The number of what is to be found, which may be more than is predicted. None takes the number of
            right predictions.
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
    found = np.cumsum(right)[ends]
    positives = int(right.sum()) if positives is None else positives
    return Curve(found / max(positives, 1), found / (ends + 1), positives, len(scores))


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of a task.

    Attributes:
        overall: Curves over all items, by name.
        classes: The curve of each class, by its name, if there are classes.
    """

    overall: Mapping[str, Curve]
    classes: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def mean_average_precision(self) -> float | None:
        """The average precision averaged over the classes, None if there are none."""
        found = [curve.average_precision for curve in self.classes.values()]
        return float(np.mean(found)) if found else None
