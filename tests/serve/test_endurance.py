"""Known attacks; and damaged files, odd inputs and many clients for seconds each, whose commands run for minutes."""

import re
import subprocess
import sys

from scripts.attack.__main__ import ATTACKS
from tests.serve.conftest import ROOT


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_no_known_attack_succeeds():
    said = run("-m", "scripts.attack")
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| ")]
    assert [row[-1] for row in rows] == ["ok", *["yes"] * len(ATTACKS)]


def test_damaged_files_harm_nobody():
    said = run("scripts/fuzz_intake.py", "--inputs", "80", "--seed", "1")
    by_status = {int(status): int(count) for status, count in re.findall(r"^  (\d+)[a-z_ ]*: (\d+)$", said, re.M)}
    assert sum(map(int, re.findall(r"^  \d+[a-z_ ]*: (\d+)$", said, re.M))) == 80
    assert set(by_status) == {200, 400}  # some can be read all the same
    assert "crashes of the server: 0; of the process that decodes: 0" in said and "hangs over 40 s: 0" in said
    assert "left behind: nothing" in said


def test_odd_inputs_end_right_or_in_an_error_of_ours():
    said = run("scripts/fuzz.py", "--cases", "600", "--seed", "1")
    assert "ended wrongly: 0" in said
    for end in ("media right", "text right", "text DataError", "tables right", "tables DataError", "requests 400"):
        assert re.search(rf"^  {end}: [1-9]", said, re.M), said


def test_many_clients_get_each_its_own_answer_or_a_refusal():
    said = run("scripts/soak.py", "--clients", "100", "--minutes", "0.1")
    assert "lost: 0, mixed up: 0" in said and "still active: 0; on disk: nothing" in said
    counts = {name: int(count) for name, count in re.findall(r"(answered|rejected|left by the client): (\d+)", said)}
    assert counts["answered"] > 0 < counts["rejected"]
