"""`serve --senses`: each sense is loaded by itself, is named in receipts, and is left out where it is missing."""

import subprocess
from pathlib import Path

import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from serve.command import build_parser
from tests.senses.test_speech import SHORT
from tests.serve.conftest import SAMPLE, Start, asked, data_url


def test_senses_look_each_by_itself_and_a_missing_one_is_named_once(start: Start, tmp_path: Path):
    """The debug model has no senses of its own. Its clip has sound, which the missing classifier cannot hear."""
    clip, empty = tmp_path / "clip.mp4", tmp_path / "empty"
    empty.mkdir()
    inputs = ["-i", str(SAMPLE), "-i", str(SHORT), "-t", "3", "-c:v", "copy", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *inputs, str(clip)], check=True)
    server = start("--model", "debug", "--senses", f"objects,sounds={empty},text").ready()
    client, url = server.client(), data_url(clip.read_bytes())
    made = [client.chat.completions.create(model="debug", messages=asked(url), max_tokens=1) for _ in range(2)]
    first, second = (one.receipt for one in made)
    assert first["videos"][0]["senses"] == second["videos"][0]["senses"] == ["objects", "text"]
    assert set(first["ms"]) == {"decode", "encode", "objects", "sounds", "text", "first_token", "total"}
    assert first["ms"]["objects"] > 10 > second["ms"]["objects"] and first["ms"]["text"] > 10 > second["ms"]["text"]
    assert server.log.read_text().count("without sounds") == 1


def test_the_names_of_senses_are_those_of_ask(capsys: pytest.CaptureFixture[str]):
    parser = build_parser()
    assert parser.parse_args([]).senses is None
    assert parser.parse_args(["--senses", "none"]).senses == ()
    assert parser.parse_args(["--senses", "speech,text"]).senses == ("speech", "text")
    with pytest.raises(SystemExit):
        parser.parse_args(["--senses", "smell"])
    assert "speech, objects, text, faces" in capsys.readouterr().err
