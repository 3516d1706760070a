"""Find the inverse temperature of a `lite` encoder, at which zero-shot probabilities are calibrated.

    python scripts/fit_scale.py [lite-multilingual]

CLIP's is trained; this one minimises the log loss of naming the one thing in simulated scenes, among 2 to 20 random
classes. The expected calibration error (15 bins) is that of fresh scenes.
"""

import random
import sys

import torch
import torch.nn.functional as F

from data_gen.simulation.story import Noise, Simulator
from videollm.encoders.build import build_encoder
from videollm.encoders.concepts import CLASSES
from videollm.presets import LITE, preset
from videollm.retrieval.classify import label_embeddings

STORIES, BINS = 400, 15


def main() -> None:
    random.seed(0)
    torch.manual_seed(0)
    encoder = build_encoder(preset(*sys.argv[1:] or [LITE.name]).encoder)
    noise = Noise(other_probability=0.0, empty_probability=0.0)
    simulator = Simulator(encoder, LITE, list(range(CLASSES)), noise=noise)  # type: ignore[arg-type]
    texts = label_embeddings(encoder.vocabulary.words[:CLASSES], encoder)
    trials = []
    for seed in range(STORIES):
        story = simulator.story(seed)
        segment, scene = random.choice(list(zip(story.segments, story.scene_of, strict=True)))
        (truth,) = story.scenes[scene].classes
        for labels in (2, 5, 20):
            others = random.sample([c for c in range(CLASSES) if c != truth], labels - 1)
            trials.append(texts[[truth, *others]] @ segment.embed.cpu())
    fit, held_out = trials[: len(trials) // 2], trials[len(trials) // 2 :]
    scales = torch.arange(1, 60, 0.5)
    losses = torch.stack([log_loss(fit, scale) for scale in scales])
    best = scales[losses.argmin()]
    accuracy = sum(int(t.argmax() == 0) for t in held_out) / len(held_out)
    print(
        f"scale {best:.1f}: log loss {log_loss(held_out, best):.3f}, accuracy {accuracy:.3f}, calibration error "
        f"{calibration_error(held_out, best):.3f} (at 1: {calibration_error(held_out, torch.tensor(1.0)):.3f})"
    )


def log_loss(trials: list[torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
    """Of cosines whose first is the truth's."""
    return torch.stack([-F.log_softmax(scale * t, 0)[0] for t in trials]).mean()


def calibration_error(trials: list[torch.Tensor], scale: torch.Tensor) -> float:
    """Guo et al. 2017: mean distance of confidence from accuracy, over bins of confidence."""
    confidence, best = zip(*[(scale * t).softmax(0).max(0) for t in trials], strict=True)
    confidence, right = torch.stack(confidence), torch.stack(best) == 0
    bins = (confidence * BINS).long().clamp_max(BINS - 1)
    gaps = [
        (confidence[bins == b].mean() - right[bins == b].float().mean()).abs() * (bins == b).sum()
        for b in bins.unique()
    ]
    return float(sum(gaps) / len(trials))


if __name__ == "__main__":
    main()
