"""Sounds by a tiny audio classifier: the model's own probabilities, in windows that join."""

from pathlib import Path

import pytest
import torch
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from videollm.config import ModelConfig, split_sense
from videollm.errors import CheckpointError, ConfigError
from videollm.features.observe import find
from videollm.senses.sounds import HEARD, WINDOW_S, SoundSense
from videollm.video.audio import SAMPLE_RATE, AudioPiece

SPEECH = Path(__file__).parent / "data/austen-0870.ogg"
SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
NAMES = {0: "Music", 1: "Male speech, man speaking", 2: "Dog", 3: "Water"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ast")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_mel_bins=32,
        max_length=64, id2label=NAMES, label2id={name: number for number, name in NAMES.items()},
    )  # fmt: skip
    model = ASTForAudioClassification(config)
    torch.nn.init.normal_(model.classifier.dense.weight, std=3.0)
    model.save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)
    return folder


def noise(seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(0))


def test_a_window_has_the_probabilities_of_the_model(directory: Path):
    sense, samples = SoundSense(directory), noise(WINDOW_S)
    found = sense.listen([AudioPiece(1.5, samples)])
    read = sense.features(samples.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    with torch.no_grad():
        probabilities = sense.model(**read).logits[0].sigmoid()
    expected = {NAMES[i]: float(p) for i, p in enumerate(probabilities) if p >= HEARD}
    assert 0 < len(expected) < len(NAMES)
    assert {f.text: f.score for f in found} == pytest.approx(expected, abs=1e-5)
    assert {(f.start_s, f.end_s, f.kind) for f in found} == {(1.5, 1.5 + WINDOW_S, "sound")}


def test_a_sound_that_goes_on_is_one_and_silence_and_gaps_end_it(directory: Path):
    sense = SoundSense(directory)
    same = noise(WINDOW_S)
    quiet = torch.zeros(round(WINDOW_S * SAMPLE_RATE))
    pieces = [AudioPiece(5.0 * i, piece) for i, piece in enumerate([same, same, quiet, same])]
    pieces.append(AudioPiece(60.0, same))
    spans = {(f.start_s, f.end_s) for f in sense.listen(pieces)}
    assert spans == {(0.0, 10.0), (15.0, 20.0), (60.0, 65.0)}


def test_it_is_a_sense_like_the_others(directory: Path):
    assert all(0 <= f.start_s < f.end_s <= 15 for f in SoundSense(directory)(SPEECH))
    silent = find(SAMPLE, (f"sounds={directory}",))
    assert silent.senses == ("sounds",) and silent.found == () and not silent.sound


def test_directories_are_checked(directory: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such directory"):
        SoundSense(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not an audio classifier"):
        SoundSense(tmp_path)
    assert split_sense(f"sounds={directory}") == ("sounds", str(directory))
    for sense, message in (("sounds", "sounds=DIRECTORY"), ("objects=x", "only speech, sounds"), ("smell", "'smell'")):
        with pytest.raises(ConfigError, match=message):
            ModelConfig(name="x", senses=(sense,))
