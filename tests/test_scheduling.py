"""A run in several processes ends, and runs every test, when one of them dies."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIES = "import os, signal\n\ndef test_dies(): os.kill(os.getpid(), signal.SIGKILL)\n"
PASSES = "import pytest\n\n@pytest.mark.parametrize('n', range({}))\ndef test_passes(n): pass\n"


@pytest.mark.parametrize("rest", [0, 3], ids=["the last of its file", "with more in its file"])
def test_all_tests_run_once_when_a_worker_dies(tmp_path: Path, rest: int):
    for file in range(6):
        (tmp_path / f"test_{file}.py").write_text(PASSES.format(8 - file))
    (tmp_path / "test_9.py").write_text(DIES + (PASSES.format(rest) if rest else ""))
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.scheduling", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", tmp_path, "-n", "2", "--dist", "loadfile", "-v", tmp_path],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    passed = re.findall(r"PASSED (\S+)", run.stdout)
    assert len(passed) == len(set(passed)) == 8 + 7 + 6 + 5 + 4 + 3 + rest, run.stdout
    assert set(re.findall(r"worker '\w+' crashed while running '(.+)'", run.stdout)) == {"test_9.py::test_dies"}
    assert run.returncode == 1 and f"1 failed, {len(passed)} passed" in run.stdout
