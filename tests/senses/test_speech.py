import json
from pathlib import Path

import pytest
import torch

from videollm.cli import main
from videollm.errors import CheckpointError, ConfigError
from videollm.senses.finding import Finding
from videollm.senses.speech import SpeechSense
from videollm.video.audio import SAMPLE_RATE, AudioPiece, iter_audio
from videollm.video.subtitles import read_subtitles

DATA = Path(__file__).parent / "data"
LONG, SHORT = DATA / "austen-0870.ogg", DATA / "austen-0880.ogg"
LONG_TEXT = (
    "and mr john dashwood had then leisure to consider how much there might be prudently in his power to do for them"
)
SHORT_TEXT = "he was not an ill disposed young man"


@pytest.fixture(scope="module")
def sense() -> SpeechSense:
    return SpeechSense()


def words(text: str) -> str:
    return " ".join(text.lower().replace("-", " ").replace(".", "").replace(",", "").split())


def sound(path: Path) -> torch.Tensor:
    return torch.cat([piece.samples for piece in iter_audio(path)])


def test_a_sentence_is_written_down_with_its_times(sense: SpeechSense):
    (found,) = sense(SHORT)
    assert (words(found.text), found.kind, found.language) == (SHORT_TEXT, "speech", "en")
    assert found.start_s == pytest.approx(0, abs=0.5) and found.end_s == pytest.approx(2.99, abs=0.5)
    assert 0.6 < found.score < 1


def test_speech_beyond_a_window_is_whole_and_in_its_place(sense: SpeechSense):
    """35 seconds in pieces of an odd length, with a gap of nothing and with silence between the sentences."""
    said = [(LONG, LONG_TEXT), (SHORT, SHORT_TEXT)] * 2
    pieces, middles, time_s = [], [], 2.25
    for (path, text), pause_s in zip(said, [4.0, 0.8, 5.0, 1.0], strict=True):
        samples = sound(path)
        middles.append((time_s + len(samples) / SAMPLE_RATE / 2, text))
        if pause_s < 4:  # silence in the file; a longer pause is a gap in it
            samples = torch.cat((samples, torch.zeros(round(pause_s * SAMPLE_RATE))))
        for part in samples.split(3001):
            pieces.append(AudioPiece(time_s, part))
            time_s = pieces[-1].end_s
        time_s += pause_s if pause_s >= 4 else 0
    found = list(sense.transcribe(pieces))
    expected = " ".join(text for _, text in said).split()
    assert word_errors(expected, words(" ".join(f.text for f in found)).split()) <= 0.05 * len(expected)
    for middle_s, text in middles:
        (own,) = (f for f in found if f.start_s < middle_s < f.end_s)
        assert text[:20] in words(own.text)


def word_errors(expected: list[str], found: list[str]) -> int:
    """Insertions, deletions and substitutions."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, 1):
        above, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


@pytest.mark.parametrize("kind", ["silence", "noise", "tone", "hum"])
def test_nothing_is_invented_where_nobody_speaks(sense: SpeechSense, kind: str):
    time_s = torch.arange(35 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "silence": torch.zeros(len(time_s)),
        "noise": 0.1 * torch.randn(len(time_s), generator=torch.Generator().manual_seed(0)),
        "tone": 0.3 * torch.sin(2 * torch.pi * 440 * time_s),
        "hum": 0.2 * torch.sin(2 * torch.pi * 50 * time_s) * torch.sin(2 * torch.pi * 3 * time_s),
    }[kind]
    assert list(sense.transcribe([AudioPiece(0.0, samples)])) == []


def test_the_command_writes_lines_subtitles_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["transcribe", str(SHORT), "--out", str(tmp_path / "said.vtt")]) == 0
    assert words(capsys.readouterr().out.split(maxsplit=1)[1]) == SHORT_TEXT
    (cue,) = read_subtitles(tmp_path / "said.vtt")
    assert words(cue.text) == SHORT_TEXT and cue.end_s == pytest.approx(2.99, abs=0.5)
    assert main(["transcribe", str(SHORT), "--json", "--language", "en"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["language"] == "en" and words(printed["segments"][0]["text"]) == SHORT_TEXT


def test_refusals_say_what_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError, match=r"language is 'xx'; this model knows .*de, .*en, "):
        SpeechSense(language="xx")
    with pytest.raises(CheckpointError, match="not a Whisper model"):
        SpeechSense(tmp_path)
    assert main(["transcribe", str(SHORT), "--out", "said.txt"]) == 2
    assert "give a name that ends so" in capsys.readouterr().err


def test_findings_are_plain_values():
    assert Finding(start_s=0, end_s=1, kind="sound", text="dog", score=0.5).box is None
