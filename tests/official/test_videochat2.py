"""VideoChat2's published files become a directory that answers, with the numbers of the official demo."""

import json
from pathlib import Path

import pytest
import torch

from tests.models.published.recorded import Recorded, recorded
from tests.official.published_files import EVIDENCE, import_tiny_videochat2, read_prompt, segment
from videollm.checkpoint import load_directory, save
from videollm.cli import main
from videollm.datasets.schema import Message
from videollm.errors import CheckpointError
from videollm.official.videochat2 import import_videochat2

SAMPLE = Path(__file__).parents[2] / "scripts" / "samples" / "sample.mp4"


@pytest.fixture(scope="module")
def data() -> Recorded:
    return recorded("VideoChat2/videochat2_it")


@pytest.fixture(scope="module")
def imported(data: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_tiny_videochat2(data, tmp_path_factory.mktemp("videochat2"))


def test_prompt_embeddings_and_logits_are_the_demos(data: Recorded, imported: Path):
    # The adapter beside the weights, as in the official code: merged, logits differ by 3e-5.
    model = load_directory(imported, "cpu", trainable=True)
    model.llm.eval()
    pixels = data.input["video_btchw"][0]  # normalised, as the demo's frames are after the crop
    seen = segment(model, torch.zeros(len(pixels), 16, 16, 3, dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0])
    model.llm.temporal._see = lambda _: model.llm.temporal.tower(pixels[None])[0]  # type: ignore[method-assign]
    turns = data.text["inputs"]["demo_turns"]
    for number in (1, 2):
        _, embeds, logits = read_prompt(model, [*turns[: number - 1], [turns[number - 1][0]]], seen)
        torch.testing.assert_close(embeds, data.output[f"demo/turn{number}_inputs_embeds"], atol=2e-5, rtol=0)
        torch.testing.assert_close(logits[:, -6:], data.output[f"demo/turn{number}_logits_last6"], atol=2e-5, rtol=0)


def test_answers_about_a_video(imported: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["ask", str(SAMPLE), "What is this?", "--model", str(imported), "--max-new-tokens", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["receipt"]["visual_tokens"] == 7
    assert answer["receipt"]["frames"] == 16
    assert answer["evidence"]


def test_trains_further_and_keeps_the_tower(imported: Path, tmp_path: Path):
    model = load_directory(imported, "cpu", trainable=True)
    messages = [Message("user", "what?"), Message("assistant", "a dog")]
    seen = segment(model, torch.randint(0, 256, (4, 20, 30, 3), dtype=torch.uint8), [0.0, 1.0, 2.0, 3.0])
    arguments = model.processor.arguments(model.processor(messages, [seen]), torch.device("cpu"))
    model.llm(**arguments).loss.backward()
    learned = {name: p for name, p in model.llm.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert {name.partition(".")[0] for name in learned} == {"temporal", "language_model"}
    assert not any(name.startswith("temporal.tower.") for name in learned)
    trained = {name: p.detach() for name, p in model.llm.named_parameters() if p.requires_grad}
    trained["temporal.module.output.bias"] = trained["temporal.module.output.bias"] + 1
    save(model, tmp_path, state=trained)
    again, before = (load_directory(path, "cpu").llm.temporal.state_dict() for path in (tmp_path, imported))
    assert [name for name in before if not torch.equal(before[name], again[name])] == ["module.output.bias"]


def test_an_adapter_for_another_language_model_is_refused(data: Recorded, imported: Path, tmp_path: Path):
    files = [imported.parent / "umt_qformer.pth", imported.parent / "stage3.pth"]
    state = torch.load(files[1], weights_only=True)["model"]
    state = {name.replace("layers.1.", "layers.7."): tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "other.pth")
    settings = {**data.config, "instruction": ()}
    with pytest.raises(CheckpointError, match=r"missing .*layers\.1\."):
        import_videochat2(
            [files[0], tmp_path / "other.pth"], imported.parent / "llm", tmp_path / "out", EVIDENCE, settings
        )
