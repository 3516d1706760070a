"""How well spans of time are found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from videollm.datasets.item import Span

AP_AT = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # QVHighlights, Lei et al. 2021


def iou(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Of [start, end, ...] and [start, end, ...]; 0 where neither has a length."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(a[1], b[1]) - min(a[0], b[0]) if shared else (a[1] - a[0]) + (b[1] - b[0])
    return shared / union if union else 0.0


def best_iou(found: Sequence[Any], right: Sequence[Span]) -> float:
    return max(iou(found, span) for span in right)


def average_precision(found: Sequence[Sequence[float]], right: Sequence[Span], at: float) -> float:
    """Of spans [start, end, score] at an IoU threshold, as in QVHighlights' and ActivityNet's evaluation: best scores
    first, each takes the right span it fits best among those not yet taken; precision is interpolated."""
    taken: set[int] = set()
    hits = []
    for span in sorted(found, key=lambda s: -s[2]):
        fits = sorted(((iou(span, r), n) for n, r in enumerate(right)), key=lambda pair: -pair[0])
        match = next((n for fit, n in fits if fit >= at and n not in taken), None)
        taken |= {match} if match is not None else set()
        hits.append(match is not None)
    true = np.cumsum(hits)
    precision = np.concatenate([[0.0], true / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], true / len(right), [1.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())


def union_length(spans: Sequence[Sequence[Any]]) -> float:
    """Seconds that lie in at least one span."""
    total, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda s: s[0]):
        total += max(0.0, span[1] - max(span[0], reached))
        reached = max(reached, span[1])
    return total


def shared_length(a: Sequence[Sequence[Any]], b: Sequence[Sequence[Any]]) -> float:
    """Seconds that lie in a span of a and in one of b."""
    both = [(max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b]
    return union_length([span for span in both if span[0] < span[1]])
