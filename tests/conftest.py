"""What holds for every test: no model hub, the same random numbers each time, no fight over cores."""

import os
import random

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VIDEOLLM_DEVICE"] = "cpu"  # the suite compares numbers on the CPU, also where there is a GPU
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("videollm", deadline=None, derandomize=True)
settings.load_profile("videollm")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
