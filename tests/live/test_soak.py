"""Twenty minutes of stream time in accelerated play, a few seconds of real time; the command watches an hour."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/soak_live.py"


def test_memory_stays_flat():
    done = subprocess.run([sys.executable, str(SCRIPT), "--minutes", "20"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr
