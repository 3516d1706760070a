"""Which frames the published systems look at, by number: their own rules, reproduced to the last frame.

Each returns the numbers of the chosen frames among `total`, increasing, from 0.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np


def uniform_indices(total: int, frames: int) -> list[int]:
    """Video-LLaMA (`processors/video_processor.py`, load_video, "uniform"): the first frame and every total / frames
    after it, cut to whole numbers.

    Where the division does not come out even, rounding in np.arange can give one frame more: 12 of 49 for 11.
    """
    count = min(frames, total)
    return np.arange(0, total, total / count).astype(int).tolist()


def head_tail_indices(total: int, frames: int, seed: int | None = None) -> list[int]:
    """Video-LLaMA's training captions ("headtail"): half of the frames at random from the first half of the video, half
    from the second; an odd number of frames loses one."""
    generator = random.Random(seed)
    count = min(frames, total)
    half = total // 2
    head = sorted(generator.sample(range(half), count // 2))
    return head + sorted(generator.sample(range(half, total), count // 2))


def middle_of_rounded_indices(total: int, frames: int) -> list[int]:
    """Video-ChatGPT (`eval/model_utils.py`, get_seq_frames): the middle of each of `frames` equal parts whose ends are
    rounded, half to even, as numpy does."""
    count = min(frames, total)
    ends = [int(np.round((total - 1) / count * i)) for i in range(count + 1)]
    return [(start + end) // 2 for start, end in pairwise(ends)]


def middle_indices(total: int, frames: int) -> list[int]:
    """VideoChat2's training (`dataset/video_utils.py`, get_frame_indices, "middle"): the middle of each of `frames`
    parts. A video of fewer frames repeats its last one."""
    count = min(frames, total)
    ends = np.linspace(0, total, count + 1).astype(int)
    chosen = [int(start + end - 1) // 2 for start, end in pairwise(ends)]
    return chosen + chosen[-1:] * (frames - count)


def shifted_indices(total: int, frames: int) -> list[int]:
    """VideoChat2's demo (`conversation.py`, get_index): the middle of the first of `frames` equal parts, then steps of
    one part, rounded half to even; neither end of the video need be seen."""
    part = float(total - 1) / frames
    start = int(part / 2)
    return [start + int(np.round(part * i)) for i in range(frames)]


RULES: dict[str, Callable[[int, int], list[int]]] = {
    "video_llama": uniform_indices,
    "video_chatgpt": middle_of_rounded_indices,
    "videochat2": shifted_indices,
}  # by the name that SamplingConfig gives them; the number of frames of the video, and how many are wanted
