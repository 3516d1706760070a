"""Metrics of predicted time spans. A span is [start, end, ...] in seconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from videollm.datasets.item import Span

# The IoU thresholds of mAP in QVHighlights (Lei et al. 2021, https://github.com/jayleicn/moment_detr,
# `standalone_eval/eval.py`).
AP_AT = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


def iou(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Returns the temporal intersection over union of two spans, 0 to 1. It is 0 if both spans are empty."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(a[1], b[1]) - min(a[0], b[0]) if shared else (a[1] - a[0]) + (b[1] - b[0])
    return shared / union if union else 0.0


def best_iou(found: Sequence[Any], right: Sequence[Span]) -> float:
    """Returns the largest IoU of a predicted span with a right span."""
    return max(iou(found, span) for span in right)


def average_precision(found: Sequence[Sequence[float]], right: Sequence[Span], at: float) -> float:
    """Returns the average precision, 0 to 1, of predicted spans [start, end, score] at the IoU threshold `at`.

    Precision is interpolated: the precision at a recall is the maximum over all higher recalls.
    """
    hits = [hit for _, hit in matched(found, right, at)]
    true = np.cumsum(hits)
    precision = np.concatenate([[0.0], true / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], true / len(right), [1.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * precision[steps]).sum())


def matched(found: Sequence[Sequence[float]], right: Sequence[Span], at: float) -> list[tuple[float, bool]]:
    """Returns the score of each predicted span [start, end, score], the highest first, and whether it is right.

    As in the evaluations of QVHighlights and ActivityNet, each takes the right span with the largest IoU among those
    that are not taken yet, if that is at least `at`.
    """
    taken: set[int] = set()
    hits = []
    for span in sorted(found, key=lambda s: -s[2]):
        fits = sorted(((iou(span, r), n) for n, r in enumerate(right)), key=lambda pair: -pair[0])
        match = next((n for fit, n in fits if fit >= at and n not in taken), None)
        taken |= {match} if match is not None else set()
        hits.append((span[2], match is not None))
    return hits


def union_length(spans: Sequence[Sequence[Any]]) -> float:
    """Returns the number of seconds that lie in at least one span."""
    total, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda s: s[0]):
        total += max(0.0, span[1] - max(span[0], reached))
        reached = max(reached, span[1])
    return total


def shared_length(a: Sequence[Sequence[Any]], b: Sequence[Sequence[Any]]) -> float:
    """Returns the number of seconds that lie in a span of a and in a span of b."""
    both = [(max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b]
    return union_length([span for span in both if span[0] < span[1]])
