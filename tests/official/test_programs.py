"""Directories that `import-official` wrote, in the other programs: training, evaluation and the server."""

from pathlib import Path

import pytest

from data_gen.make_world import main as make_world
from tests.models.published.recorded import recorded
from tests.official.published_files import (
    import_tiny_video_chatgpt,
    import_tiny_video_llama,
    import_tiny_videochat2,
    write_video_chatgpt,
    write_video_llama,
)
from tests.serve.conftest import SAMPLE, asked, data_url, starting
from tests.train.rows import sample
from train import stage2
from videollm.checkpoint import load
from videollm.cli import main
from videollm.model import config_of


def imported(system: str, folder: Path) -> Path:
    folder.mkdir()
    if system == "Video-ChatGPT":
        return import_tiny_video_chatgpt(write_video_chatgpt(folder))
    if system == "VideoChat2":
        return import_tiny_videochat2(recorded("VideoChat2/videochat2_it"), folder)
    data = recorded("VideoLLaMA/vision")
    return import_tiny_video_llama(data, write_video_llama(data, folder), folder / "out", "video_llama")


@pytest.mark.parametrize("system", ["Video-LLaMA", "VideoChat2", "Video-ChatGPT"])
def test_an_imported_directory_is_trained_evaluated_and_served(system: str, tmp_path: Path):
    out, tuned = imported(system, tmp_path / "system"), tmp_path / "tuned"
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(sample(str(i), "qa", "What is it?", "A cat.").to_json() + "\n" for i in range(2)))
    tune = "adapter" if config_of(str(out)).llm.lora else "projector"
    training = ["checkpoint_stage2", "--init", str(out), "--data", str(rows), "--output", str(tuned), "--tune", tune]
    stage2.main([*training, "--batch-size", "2", "--epochs", "3", "--learning-rate", "0.01"])
    before, after = (load(str(folder), "cpu").llm.temporal.state_dict() for folder in (out, tuned))
    changed = [name for name in before if not before[name].equal(after[name])]
    assert changed and not any(name.startswith("tower") for name in changed)

    make_world(
        ["--out", str(tmp_path / "world"), "--split", "test=1", "train=1", "--size", "64", "--seconds", "2", "2"]
    )
    for folder in (out, tuned):
        result = tmp_path / f"{folder.name}-mcqa"
        options = ["--model", str(folder), "--data", str(tmp_path / "world"), "--limit", "1", "--out", str(result)]
        assert main(["eval", "mcqa", *options]) == 0
        assert len((result / "predictions.jsonl").read_text().splitlines()) > 0

    with starting(tmp_path) as start:
        client = start("--model", str(tuned)).ready().client()
        (shown,) = client.models.list().data
        messages = asked(data_url(SAMPLE.read_bytes()))
        reply = client.chat.completions.create(model=shown.id, messages=messages, max_tokens=4)
        assert reply.usage.completion_tokens > 0
