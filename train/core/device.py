"""The device of one training rank."""

import os

import torch


def rank_device() -> torch.device:
    """The GPU whose number the launcher gave this rank in LOCAL_RANK, or the CPU where there is no GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def world_size() -> int:
    """How many ranks the launcher started; known from the environment before any process group exists."""
    return int(os.environ.get("WORLD_SIZE", "1"))
