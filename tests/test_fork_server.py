"""Commands of the fork server end, fail and are stopped as those of a new Python."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork_server import programs, python

PROGRAM = """
import os, sys
print(sys.argv, os.getcwd(), os.environ.get("WHO"), sys.stdin.read(), "torch" in sys.modules, __name__)
print("a complaint", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["-c", "-m", "file"])
def test_a_program_gets_what_it_would_get_from_python_itself(kind: str, tmp_path: Path):
    (tmp_path / "program.py").write_text(PROGRAM)
    program = {"-c": ["-c", PROGRAM], "-m": ["-m", "program"], "file": ["program.py"]}[kind]
    how = {"cwd": tmp_path, "env": os.environ | {"WHO": "me"}, "input": "words", "capture_output": True, "text": True}
    forked, real = (subprocess.run([each, *program, "a", "b c"], **how) for each in (python(), sys.executable))
    assert (forked.returncode, forked.stderr) == (real.returncode, real.stderr) == (3, "a complaint\n")
    assert forked.stdout == real.stdout.replace("False", "True") and "'b c'] " in forked.stdout


def test_an_exception_is_an_error():
    done = subprocess.run([python(), "-c", "[][1]"], capture_output=True, text=True)
    assert done.returncode == 1 and "IndexError" in done.stderr


def test_a_signal_reaches_the_program_and_ends_the_command():
    program = "import time; print('begun', flush=True); time.sleep(300)"
    for number in (signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen([python(), "-c", program], stdout=subprocess.PIPE) as command:
            assert command.stdout is not None and command.stdout.readline() == b"begun\n"
            command.send_signal(number)
            assert command.wait(60) == -number


def test_the_program_of_a_killed_command_is_killed():
    program = "import time; print('begun', flush=True); time.sleep(300)"
    with subprocess.Popen([python(), "-c", program], stdout=subprocess.PIPE) as command:
        assert command.stdout is not None and command.stdout.readline() == b"begun\n"
        command.kill()
        assert command.stdout.read() == b""  # which returns when the program, the last to have it open, has ended


def test_a_program_that_becomes_another_one_goes_on():
    command = f'exec python -c \'import os; os.execv("{sys.executable}", ["python", "-c", "print(6 * 7)"])\''
    path = f"{programs()}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", command], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("42\n", 0)
