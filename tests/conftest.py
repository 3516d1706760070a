"""Settings of every test: no model hub, the same random numbers each time, one thread a worker, and which are fast."""

import os
import random
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VIDEOLLM_DEVICE"] = "cpu"  # the suite compares numbers on the CPU, also where there is a GPU
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.scheduling import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

settings.register_profile("videollm", deadline=None, derandomize=True)
settings.load_profile("videollm")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


TESTS = Path(__file__).parent
# Folders and files whose tests start servers, browsers or training runs, install packages, or load the weights of
# `lite`. A single test of this kind in another file is marked slow there. All others are fast: `pytest -m fast`.
SLOW = (
    "bench",
    "chat/test_load.py",
    "cli",
    "data_gen/test_make_instructions.py",
    "data_gen/test_world_files.py",
    "data_gen/test_world_sound_files.py",
    "data_gen/test_world_splits.py",
    "data_gen/test_world_truth.py",
    "encoders/test_lite.py",
    "encoders/test_protocol.py",
    "evaluate/test_judge.py",
    "evaluate/test_lmms.py",
    "evaluate/test_page.py",
    "evaluate/test_run.py",
    "evaluate/test_side_by_side.py",
    "evaluate/test_trust.py",
    "inference/test_chat_completions.py",
    "live/test_objects.py",
    "live/test_soak.py",
    "live/test_sources.py",
    "live/test_speech.py",
    "live/test_watch.py",
    "models/hub",
    "models/test_loss.py",
    "official/test_programs.py",
    "official/test_video_llama_audio.py",
    "retrieval/test_commands.py",
    "retrieval/test_derived.py",
    "retrieval/test_index.py",
    "retrieval/test_ray_cluster.py",
    "retrieval/test_sensed.py",
    "senses",
    "serve",
    "test_assets.py",
    "test_every_device.py",
    "test_examples.py",
    "test_export.py",
    "test_fork_server.py",
    "test_gpu_checks.py",
    "test_onnx_export.py",
    "test_project.py",
    "test_readmes.py",
    "test_scheduling.py",
    "train/test_augment.py",
    "train/test_clip.py",
    "train/test_decoding.py",
    "train/test_dense.py",
    "train/test_features.py",
    "train/test_hub.py",
    "train/test_losses.py",
    "train/test_mix.py",
    "train/test_motion.py",
    "train/test_open_clip_towers.py",
    "train/test_packing.py",
    "train/test_prompt_ranks.py",
    "train/test_recipes.py",
    "train/test_resume.py",
    "train/test_retrieval.py",
    "train/test_retrieval_losses.py",
    "train/test_rl.py",
    "train/test_stages.py",
    "train/test_world_losses.py",
    "train/test_world_sound.py",
    "vllm",
)


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "fast":
        # With an empty cache and no package index, a test that needs weights fails instead of fetching them, so that
        # `pytest -m fast` never comes to depend on a download.
        os.environ["VIDEOLLM_CACHE"] = tempfile.mkdtemp(prefix="videollm-fast-")
        os.environ["PIP_NO_INDEX"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(TESTS).as_posix()
        if any(path == name or path.startswith(f"{name}/") for name in SLOW):
            item.add_marker("slow")
        if not item.get_closest_marker("slow"):
            item.add_marker("fast")
