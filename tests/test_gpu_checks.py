"""scripts/test_gpu.sh's program, at toy size where there is no GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts import gpu_checks
from train import stage1, stage2

ROOT = Path(__file__).parents[1]


def test_it_runs_on_the_cpu(tmp_path: Path):
    checks = ["equal_answers", "ask", "index", "zero2", "speed"]
    command = [sys.executable, "scripts/gpu_checks.py", "--device", "cpu", "--json", tmp_path / "report.json"]
    done = subprocess.run([*command, "--only", *checks], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {name: found["result"] for name, found in report["checks"].items()} == {
        name: "not run" if name == "zero2" else "passed" for name in checks
    }
    assert report["device"] == "cpu" and report["numbers"]["speed"]["training step, tokens/s"] > 0
    assert "decode, 2 at once, MFU" in done.stdout


def test_training_that_needs_cuda_has_options_that_exist(tmp_path: Path):
    context = gpu_checks.Context(torch.device("cpu"), tmp_path)
    for main, command in (
        (stage1.main, gpu_checks.stage(1)),
        (stage2.main, gpu_checks.zero2_options(context)),
        (stage2.main, gpu_checks.qlora_options(context)),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, command[1:]), "--print-config"])
        assert stopped.value.code in (0, None)
