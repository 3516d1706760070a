"""Evaluate a model on your own multiple-choice questions, with an interval and controls.

python scripts/examples/evaluate_own_questions.py [--model lite] [--out runs/example_evaluation]
"""

import argparse
import json
import shutil
from pathlib import Path

from videollm.cli import main as videollm

SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"
CHOICES = ["a cat", "an espresso", "a rocket"]
QUESTIONS = {"What comes first?": "a cat", "What is at 0:06?": "an espresso", "How does it end?": "a rocket"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--out", type=Path, default=Path("runs/example_evaluation"))
    options = parser.parse_args()

    # A folder with the videos and a file items.jsonl is a data set of your own.
    data = options.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    shutil.copy(SAMPLE, data)
    items = [
        {"id": str(n), "video": SAMPLE.name, "question": question, "choices": CHOICES, "references": [answer]}
        for n, (question, answer) in enumerate(QUESTIONS.items())
    ]
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    # The same as `videollm eval mcqa ...`. OUT/report has the report as JSON, Markdown and HTML.
    raise SystemExit(videollm(["eval", "mcqa", "--model", options.model, "--data", str(data), "--out",
                               str(options.out / "report")]))  # fmt: skip


if __name__ == "__main__":
    main()
