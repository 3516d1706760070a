"""Two tiny models in one table, and the same command again."""

from pathlib import Path

from scripts.side_by_side import main
from scripts.tiny_hub.__main__ import write


def test_two_models_fill_a_table_that_a_second_run_leaves_as_it_is(world: Path, tmp_path: Path):
    models = [tmp_path / family for family in ("qwen2_vl", "qwen3_vl")]
    for folder in models:
        write(folder.name, folder)
    out = tmp_path / "out"
    command = ["mcqa", "--models", *map(str, models), "--data", str(world), "--out", str(out), "--limit", "1"]
    command += ["--evidence-encoder", "debug"]
    assert main(command) == 0
    head, _, *rows = (out / "table.md").read_text().splitlines()
    assert all(f"| {control} |" in head for control in ("blank", "shuffled", "text_only"))
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(map(str, models))
    predicted = [(out / folder.name / "predictions.jsonl").read_bytes() for folder in models]
    assert main([*command[:2], str(tmp_path), *command[2:]]) == 2  # a folder that is no model, and the two others
    assert (out / "table.md").read_text().splitlines() == [head, _, *rows]
    assert predicted == [(out / folder.name / "predictions.jsonl").read_bytes() for folder in models]
