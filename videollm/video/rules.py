"""The sampling rules of published systems, reproduced exactly.

Each function returns the numbers of the chosen frames among `total`, counted from 0, in increasing order.
"""

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np


def uniform_indices(total: int, frames: int) -> list[int]:
    """Video-LLaMA's rule (`processors/video_processor.py`, load_video, "uniform"): every (total / frames)-th frame from
    the first, rounded down.

    If the division is not even, the rounding in np.arange can give one frame more, for example 12 of 49 for 11.
    """
    count = min(frames, total)
    return np.arange(0, total, total / count).astype(int).tolist()


def head_tail_indices(total: int, frames: int, seed: int | None = None) -> list[int]:
    """Video-LLaMA's rule for training captions ("headtail"): half of the frames at random from each half of the video.

    An odd number of frames loses one.
    """
    generator = random.Random(seed)
    count = min(frames, total)
    half = total // 2
    head = sorted(generator.sample(range(half), count // 2))
    return head + sorted(generator.sample(range(half, total), count // 2))


def middle_of_rounded_indices(total: int, frames: int) -> list[int]:
    """Video-ChatGPT's rule (`eval/model_utils.py`, get_seq_frames): the middle of each of `frames` equal parts.

    The ends of the parts are rounded half to even, as numpy does.
    """
    count = min(frames, total)
    ends = [int(np.round((total - 1) / count * i)) for i in range(count + 1)]
    return [(start + end) // 2 for start, end in pairwise(ends)]


def middle_indices(total: int, frames: int) -> list[int]:
    """VideoChat2's rule in training (`dataset/video_utils.py`, get_frame_indices, "middle"): the middle of each of
    `frames` parts.

    A video with fewer frames repeats its last one.
    """
    count = min(frames, total)
    ends = np.linspace(0, total, count + 1).astype(int)
    chosen = [int(start + end - 1) // 2 for start, end in pairwise(ends)]
    return chosen + chosen[-1:] * (frames - count)


def shifted_indices(total: int, frames: int) -> list[int]:
    """VideoChat2's rule in its demo (`conversation.py`, get_index): the middle of the first of `frames` equal parts,
    then steps of one part, rounded half to even.

    The first and the last frame may be left out.
    """
    part = float(total - 1) / frames
    start = int(part / 2)
    return [start + int(np.round(part * i)) for i in range(frames)]


# The rules by their names in SamplingConfig. The arguments are the number of frames of the video and the number wanted.
RULES: dict[str, Callable[[int, int], list[int]]] = {
    "video_llama": uniform_indices,
    "video_chatgpt": middle_of_rounded_indices,
    "videochat2": shifted_indices,
}
