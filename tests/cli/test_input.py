"""Whatever is typed, and wherever the output goes: one line says what is wrong, and a conversation goes on."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fork_server import python
from tests.video.clips import write_clip
from videollm.cli import main


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4")


def videollm(*arguments: str | bytes, **how) -> subprocess.CompletedProcess:
    command = [python(), "-m", "videollm.cli", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, **how)


def test_numbers_are_checked(capsys):
    """Every value for one option, and one value for each of the others: they share their reader."""
    values = [("--end", value) for value in ("-5", "nan", "inf", "1e12", "x", "")]
    options = [(option, "-5") for option in ("--start", "--fps", "--frames", "--temperature", "--top-p")]
    for option, value in values + options:
        with pytest.raises(SystemExit) as ended:
            main(["ask", "a.mp4", "What?", f"{option}={value}"])
        assert ended.value.code == 2
        assert f"argument {option}: {value!r} is not a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.mp4"], "the question is missing; write it after the video: ask a.mp4 'QUESTION'"),
        (["a.mp4", " \n"], "the question is empty"),
        (["--index", "x", ""], "the question is empty"),
        (["What?"], "no video was given"),
    ],
)
def test_a_question_is_needed(arguments, reason, capsys):
    assert main(["ask", *arguments, "--model", "debug"]) == 2
    assert reason in capsys.readouterr().err


def test_a_closed_pipe_is_quiet_and_a_full_disk_is_one_line(clip):
    read, write = os.pipe()
    os.close(read)
    done = videollm("info", str(clip), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
    with open("/dev/full", "wb") as full:
        done = videollm("info", str(clip), stdout=full)
    assert (done.returncode, done.stderr) == (2, b"videollm: no space left on device\n")


def test_names_and_words_of_another_encoding(clip):
    named = os.fsencode(clip.parent) + b"/caf\xe9.mp4"
    os.link(clip, named)
    done = videollm("info", named, stdout=subprocess.PIPE)
    assert done.returncode == 0 and rb"caf\udce9.mp4" in done.stdout
    lines = b"caf\xe9?\n/save\n/save /nowhere/x\n/save " + os.fsencode(clip.parent) + b"\n/save a.session\nand then?\n"
    done = videollm("chat", str(clip), "--model", "debug", input=lines, stdout=subprocess.PIPE, cwd=clip.parent)
    said = done.stderr.decode().splitlines()[1:]
    assert done.returncode == 0 and done.stdout.count(b"> ") == 7
    assert [line.split(" ")[0] for line in said] == ["/save", "/nowhere/x", str(clip.parent)]
    assert (clip.parent / "a.session").is_file() and not [*clip.parent.glob("*.part")]


def test_a_picture_that_cannot_be_written_loses_no_text(clip, capsys, tmp_path):
    (tmp_path / "taken.png").mkdir()
    code = main(["keyframes", str(clip), "--model", "debug", "--open", str(tmp_path / "taken.png")])
    printed = capsys.readouterr()
    assert code == 2 and "taken.png: the picture cannot be written (is a directory)" in printed.err
    assert "0:0" in printed.out
