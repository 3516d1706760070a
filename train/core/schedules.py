"""Learning-rate schedules of the published retrieval systems."""

import math


def lr_multiplier(schedule: str, progress: float, warmup_ratio: float) -> float:
    """Returns the factor of the peak learning rate at `progress`, the share of all steps that is done.

    "cosine" starts its half period after the warm-up. "bert_cosine" evaluates it at `progress`, as CLIP4Clip does, so
    that the rate drops a little at the end of the warm-up. "rising" grows from 0.05 to 1, which is STAN's schedule on
    MSR-VTT. "constant" stays at 1.
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    if schedule == "cosine":
        return (1 + math.cos(math.pi * (progress - warmup_ratio) / (1 - warmup_ratio))) / 2
    if schedule == "bert_cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 0.05 + 0.95 * progress if schedule == "rising" else 1.0
