"""Recognition of the events of rendered clips: what retrieval heads name after training with labels."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from train.configs.recognition import RecognitionRecipe
from train.configs.retrieval import RetrievalRecipe
from train.core.trainer import run_task
from train.data.labels import LabelBatches
from train.data.pair_batches import PairBatches
from train.data.pairs import CaptionPair
from train.data.world import event_labels
from train.tasks.backbone import towers, whiten
from train.tasks.recognition import RecognitionTask, ranks
from videollm.retrieval import model as directory
from videollm.retrieval.clip import VisionTransformer

FOUND = "found.json"
COLUMNS = {"events": "events", "both": "first and last event", "moves": "directions"}


def whitened(clip: Path, output: Path, pairs: Sequence[CaptionPair], recipe: RetrievalRecipe) -> None:
    """Writes a CLIP whose embeddings of frames are whitened.

    Args:
        clip: The directory of the CLIP.
        output: The directory that is written.
        pairs: Clips whose frames say how embeddings vary.
        recipe: How frames are read. It freezes the visual tower.
    """
    model = directory.load(clip)
    visual = towers(model)[0]
    assert isinstance(visual, VisionTransformer)
    features = PairBatches(pairs, recipe, visual, 0).features
    assert features is not None
    whiten(visual, torch.from_numpy(features.embed.copy()).flatten(0, 1))
    directory.save(model, output, f"The CLIP of {clip.name} with whitened embeddings of frames.\n")


def is_recognised(folder: Path) -> bool:
    """Whether `recognise` wrote this directory."""
    return (folder / FOUND).exists()


def recognise(recipe: RecognitionRecipe, test: Path) -> None:
    """Trains a head to name the first and the last event of clips, and writes what it names of a split for testing."""
    task = RecognitionTask(recipe)
    run_task(task)
    recogniser = task.module.recogniser
    tower, layers = towers(recogniser.model)[0], recogniser.model.head.hidden_layers
    # Of few clips for training, rare kinds may be missing.
    named = [
        r for r in event_labels(test) if all(x in names for x, names in zip(r.labels, recogniser.classes, strict=True))
    ]
    batches = LabelBatches(named, recipe, tower, layers, recogniser.classes)
    right = ranks(task.module, batches) == 0
    moves = torch.tensor([[label.startswith("move") for label in row.labels] for row in batches.rows])
    shares = {"events": right, "both": right.all(1), "moves": right[moves]}
    found = {name: float(x.float().mean()) for name, x in shares.items()} | {"moving": int(moves.sum())}
    (Path(recipe.output) / FOUND).write_text(json.dumps(found, indent=2))
    print(Path(recipe.output).name, json.dumps(found), flush=True)


def recognition_table(folder: Path) -> list[str]:
    """Returns the lines of a table of what the heads in a folder name."""
    lines = ["| head | " + " | ".join(COLUMNS.values()) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for file in sorted(folder.glob(f"*/{FOUND}")):
        found = json.loads(file.read_text())
        lines.append(f"| {file.parent.name} | " + " | ".join(f"{found[name]:.2f}" for name in COLUMNS) + " |")
    return lines
