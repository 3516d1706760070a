"""Write instruction rows about your own video, train both stages of a tiny model on them, and ask it a question.

    python scripts/examples/train_on_own_rows.py [--out runs/example_training]

The model is `debug`, which is random and tiny, so that the example takes seconds. A real run names a recipe such as
clip_b32_smollm2_stage1 and runs for hours on a GPU; everything else stays the same.
"""

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from videollm import ChatSession, load
from videollm.datasets.schema import Message, Provenance, Sample

ROOT = Path(__file__).parents[2]
VIDEO = ROOT / "scripts/samples/sample.mp4"
ROWS = [  # start and end in seconds, task, question, answer
    (0, 4, "caption/short", "Describe the video.", "A cat looks past the camera."),
    (4, 8, "caption/short", "Describe the video.", "A cup of coffee stands on a saucer."),
    (8, 12, "caption/short", "Describe the video.", "A rocket stands on its launch pad."),
    (0, 12, "qa/temporal", "What comes first?", "A cat comes first."),
]


def make_sample(number: int, start: float, end: float, task: str, question: str, answer: str) -> Sample:
    created = datetime.now(UTC).isoformat()
    return Sample(
        id=f"own-{number}",
        video=str(VIDEO),
        start=start,
        end=end,
        task=task,
        language="en",
        messages=(Message("user", question), Message("assistant", answer)),
        answer_times=((start, end),),
        provenance=Provenance(source="own", generator="me", model=None, prompt_sha=None, created=created, seed=None),
    )


def train(script: str, recipe: str, *options: str) -> None:
    command = [sys.executable, str(ROOT / "train" / script), recipe, *options, "--epochs", "1", "--batch-size", "2"]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/example_training"))
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    rows, stage1, stage2 = (options.out / name for name in ("rows.jsonl", "stage1", "stage2"))
    rows.write_text("".join(make_sample(n, *row).to_json() + "\n" for n, row in enumerate(ROWS)))
    train("stage1.py", "debug_stage1", "--data", str(rows), "--output", str(stage1))
    train("stage2.py", "debug_stage2", "--data", str(rows), "--init", str(stage1), "--output", str(stage2))
    print(ChatSession(load(str(stage2)), VIDEO).ask("What comes first?").text)


if __name__ == "__main__":
    main()
