"""The device of one training rank."""

import os

import torch


def rank_device() -> torch.device:
    """Returns the GPU with the number that the launcher set in LOCAL_RANK, or the CPU if there is no GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def world_size() -> int:
    """Returns the number of ranks that the launcher started. The environment has it before any process group exists."""
    return int(os.environ.get("WORLD_SIZE", "1"))
