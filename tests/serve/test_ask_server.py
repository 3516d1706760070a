"""`videollm ask --server`: the answer of a running server is the one that this process would give."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import SAMPLE, Server
from videollm.cli.main import main

# A process that is to answer at once has no time to import PyTorch.
PROGRAM = "import sys; from videollm.cli.main import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
ASK = ["ask", str(SAMPLE), "What is it?", "--model", "debug", "--frames", "6", "--max-new-tokens", "9", "--json"]


def stored(server: Server) -> list[dict]:
    """Files that the server keeps. Other tests share the server, so a test compares before and after."""
    return httpx.get(f"{server.url}/v1/files", params={"limit": 10_000}).json()["data"]


def test_a_server_answers_as_this_process_does(server: Server, capsys: pytest.CaptureFixture[str]):
    before = stored(server)
    command = [sys.executable, "-c", f"{PROGRAM}; sys.exit(code)", *ASK, "--server", f"{server.url}/v1"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert main(ASK) == 0
    own = json.loads(capsys.readouterr().out)
    for one in (answer, own):
        del one["receipt"]["ms"], one["receipt"]["cached_tokens"]
    assert answer == own and own["receipt"]["frames"] == 6
    assert stored(server) == before  # the video was deleted


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "lite"], "no model 'lite'; this server has 'debug'"),
        (["--senses", "objects"], "--senses is for this process; leave it out with --server"),
        (["--index", "somewhere"], "--server answers about one video"),
        (["--server", "http://127.0.0.1:1/v1"], "check that it is running"),
    ],
)
def test_what_a_server_cannot_do_is_said(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
):
    assert main([*ASK, "--server", f"{server.url}/v1", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_bad_file_is_refused_and_deleted(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    bad = tmp_path / 'a "bad".mp4'
    bad.write_bytes(b"nonsense" * 99)
    before = stored(server)
    assert main(["ask", str(bad), *ASK[2:], "--server", f"{server.url}/v1"]) == 2
    assert "not a video or image" in capsys.readouterr().err
    assert stored(server) == before
