"""The reports of a run: a card with recipe, data, metrics and hardware, and the loss curve."""

import hashlib
import os
import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from train.configs.base import Recipe, leaves


def card(
    recipe: Recipe, script: str, metrics: Mapping[str, float], history: Sequence[Mapping[str, Any]], run: Sequence[str]
) -> str:
    """Returns the text of `card.md`.

    Args:
        recipe: The recipe.
        script: The program that trained.
        metrics: Measures of the finished model.
        history: The log of the trainer.
        run: Lines about the run.
    """
    lines = [f"# {Path(recipe.output).name}", "", f"Trained by `{script}`, recipe `{recipe.name}`.", ""]
    lines += ["| field | value |", "|---|---|"]
    lines += [f"| {f.name} | {value} |" for _, f, value in leaves(recipe) if value != f.default]
    files = [f.partition("=")[0] for text in (recipe.dataset.data, recipe.dataset.eval_data) for f in text.split(",")]
    lines += ["", "**Data**", ""]
    lines += [f"- {name}: sha256 {sha256(Path(name))}" for name in files if name] or [
        "- simulated (`data_gen/simulation`)"
    ]
    lines += ["", "**Metrics**", ""]
    losses = [(h["step"], h["loss"]) for h in history if "loss" in h]
    if losses:
        lines.append(f"- training loss: {losses[0][1]:.4f} at step {losses[0][0]}, {losses[-1][1]:.4f} at the end")
    for entry in history:
        measured = [f"{k} {v:.4f}" for k, v in entry.items() if k in ("eval_loss", "eval_accuracy")]
        lines += [f"- step {entry['step']}: {', '.join(measured)}"] if measured else []
    if metrics:
        lines += [
            "",
            f"| {recipe.dataset.eval_data} | |",
            "|---|---|",
            *(f"| {k} | {v:.4g} |" for k, v in metrics.items()),
        ]
    return "\n".join([*lines, "", "**Run**", "", *(f"- {line}" for line in [*run, *machine()]), ""])


def machine() -> list[str]:
    """Returns lines about the hardware, the software and the peak memory of this process."""
    # ru_maxrss is in bytes on macOS and in KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    lines = [f"peak memory {peak:.2f} GB a rank"]
    if torch.cuda.is_available():
        lines.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
        lines.append(f"peak GPU memory {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
    else:
        lines.append(f"{os.cpu_count()} cores, {platform.machine()}")
    return [*lines, f"torch {torch.__version__}"]


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plot(path: Path, curves: Mapping[str, Sequence[tuple[int, float]]], ylabel: str) -> None:
    """Draws each curve, (step, value) by its label. Single points are marked, those of dense curves are not."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for label, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), marker="" if label.startswith("training") else ".", label=label)
    axes.set(xlabel="step", ylabel=ylabel)
    figure.legend(loc="outside lower center", ncols=4)  # beside the curves it would cover some
    figure.savefig(path, dpi=120)


def loss_curve(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draws the losses of training and of held-out rows over steps."""
    named = (("training", "loss"), ("held out", "eval_loss"))
    plot(path, {label: [(h["step"], h[key]) for h in history if key in h] for label, key in named}, "loss")
