"""Damaged files, and many clients at once, for a few seconds each; the commands run for minutes."""

import re
import subprocess
import sys

from tests.serve.conftest import ROOT


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_damaged_files_harm_nobody():
    said = run("fuzz_intake.py", "--inputs", "150", "--seed", "1")
    by_status = {int(status): int(count) for status, count in re.findall(r"^  (\d+)[a-z_ ]*: (\d+)$", said, re.M)}
    assert sum(map(int, re.findall(r"^  \d+[a-z_ ]*: (\d+)$", said, re.M))) == 150
    assert set(by_status) == {200, 400}  # some can be read all the same
    assert "crashes of the server: 0; of the process that decodes: 0" in said and "hangs over 40 s: 0" in said
    assert "left behind: nothing" in said


def test_many_clients_get_each_its_own_answer_or_a_refusal():
    said = run("soak.py", "--clients", "100", "--minutes", "0.1")
    assert "lost: 0, mixed up: 0" in said and "still active: 0; on disk: nothing" in said
    counts = {name: int(count) for name, count in re.findall(r"(answered|rejected|left by the client): (\d+)", said)}
    assert counts["answered"] > 0 < counts["rejected"]
