"""Compare temporal modules on what they let a language model tell of motion and order, at equal budgets.

    python train/experiments/projectors.py --motion DIR --out DIR

Every module starts from random weights, behind the tower and the motion stem that `train/experiments/motion.py` trained
in DIR, sees equally many rendered clips, and gives equally many tokens to the same untrained language model. One reads
the tower without the stem. Writes OUT/table.md, OUT/table.json and OUT/costs.json. Parts that exist are not made again,
so a run that was stopped resumes.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from train import dense, stage2
from train.configs.dense import WORLD_EVENTS, DenseRecipe
from train.configs.stage2 import WORLD_STAGE2
from train.experiments.costs import timed
from train.experiments.motion import TESTS, tested
from train.tasks.dense import dense_model
from videollm.config import StemKind, TemporalKind
from videollm.model import projector_state

PROJECTORS: dict[str, tuple[TemporalKind, StemKind]] = {
    "attentive": ("attentive", "motion"),
    "attentive, no stem": ("attentive", "none"),
    "qformer": ("qformer", "motion"),
    "video_llama": ("video_llama", "motion"),
    "merge": ("merge", "motion"),
    "concat": ("concat", "motion"),
    "pool": ("pool", "motion"),
}
TRAINED = ("temporal.tower.", "temporal.module.stem.")
COLUMNS = ("both events", "all", "all, reversed", "direction", "order", "first_last", "count", "colour")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--motion", type=Path, default=Path("runs/motion"), metavar="DIR", help="a complete run")
    parser.add_argument("--out", type=Path, default=Path("runs/projectors"), metavar="DIR")
    parser.add_argument("--clips", type=int, default=4000, help="training clips of each of the two phases")
    options = parser.parse_args(argv)
    motion, out = options.motion.resolve(), options.out.resolve()
    found = {name: compared(motion, out, name, options.clips) for name in PROJECTORS}
    (out / "table.json").write_text(json.dumps(found, indent=2))
    report(out, found)


def compared(motion: Path, out: Path, name: str, clips: int) -> dict[str, Any]:
    """Returns the size of a module, and what it and the language model behind it tell of the test clips."""
    kind, stem = PROJECTORS[name]
    folder = out / name.replace(", ", "-").replace(" ", "_")
    shared = {"llm": str(motion / "words"), "temporal": kind, "stem": stem, "num_videos": clips, "resume": "last"}
    weights: dict[str, Any] = {"events": 0.0} if stem == "none" else {}
    events = WORLD_EVENTS.changed(**shared, **weights, output=str(folder / "events"), init=str(folder / "start"))
    answers = WORLD_STAGE2.changed(**shared, output=str(folder / "answers"), init=str(folder / "events"))
    if not (folder / "start" / "projector.safetensors").exists():
        start(motion, folder / "start", events)
    for phase, train, recipe in (("events", dense.train, events), ("answers", stage2.train, answers)):
        if not (folder / phase / "config.json").exists():
            with timed(out, f"{name}: {phase}"):
                train(recipe)  # type: ignore[arg-type]
    if not (folder / "table.json").exists():
        (folder / "table.json").write_text(json.dumps(tested(folder, motion, TESTS[0]), indent=2))
    trained = load_file(folder / "start" / "projector.safetensors")
    parameters = sum(tensor.numel() for n, tensor in trained.items() if not n.startswith(TRAINED))
    return {"parameters": parameters, **json.loads((folder / "table.json").read_text())}


def start(motion: Path, folder: Path, recipe: DenseRecipe) -> None:
    """Writes the tensors that a module starts from: tower and stem as trained, the module at random."""
    fresh = projector_state(dense_model(recipe.changed(init="")).llm)
    trained = load_file(motion / "events" / "projector.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: trained[n] if n.startswith(TRAINED) else t for n, t in fresh.items()}, folder / "projector.safetensors"
    )


def report(out: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    costs = json.loads((out / "costs.json").read_text())
    head = ("module", "parameters", *(c.replace("_", " ") for c in COLUMNS), "minutes")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in found.items():
        shares = {
            "both events": row["readout"]["own"]["both events"],
            **row["kinds"]["own"],
            "all": row["all"]["own"],
            "all, reversed": row["all"]["reversed"],
        }
        minutes = sum(costs[f"{name}: {phase}"]["cpu_seconds"] for phase in ("events", "answers")) / 60
        cells = [f"{row['parameters']:,}", *(f"{shares[c]:.2f}" if c in shares else "-" for c in COLUMNS)]
        lines.append(f"| {name} | " + " | ".join([*cells, f"{minutes:.0f}"]) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
