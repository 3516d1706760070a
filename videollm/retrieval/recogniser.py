"""Action recognition: the embedding that a retrieval head gives a video, and a linear layer that names its classes.

Shapes: B videos, T frames, E embedding width, C_k classes of the k-th label, V views.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videollm.config import SamplingConfig
from videollm.encoders.base import FrameFeatures
from videollm.encoders.images import RESIZE
from videollm.errors import CheckpointError
from videollm.retrieval import model as directory
from videollm.retrieval.classify import LabelProb
from videollm.retrieval.files import CLASSES_FILE, CLASSIFIER_FILE
from videollm.retrieval.head import unit
from videollm.retrieval.inputs import normalise_for, resize_of
from videollm.retrieval.model import RetrievalModel
from videollm.sampling_config import Decoder
from videollm.video.decoding import decode

Classes = tuple[tuple[str, ...], ...]


def is_there(folder: Path) -> bool:
    """Whether the folder holds a model that `Recogniser.save` wrote."""
    return (folder / CLASSES_FILE).is_file()


class Recogniser(nn.Module):
    """Names what happens in a video, by classes that it was trained on (`train/recognize.py`).

    The logits are W √E n(v) + b, where n(v) is the normalised embedding that the head gives the video.

    Args:
        model: The towers and the head. Text is not read.
        classes: The names of the classes of each label. Data sets such as EPIC-Kitchens give a video several labels (a
            verb and a noun).
        fps: Frames a second that it was trained on; 0: `frames` frames, spread over the video.
        frames: The most frames of a video that it was trained on.
    """

    def __init__(self, model: RetrievalModel, classes: Classes, fps: float, frames: int):
        super().__init__()
        self.model, self.classes, self.fps, self.frames = model, classes, fps, frames
        self.classifier = nn.Linear(model.config.text.embed_dim, sum(map(len, classes)))  # pyright: ignore

    def forward(self, frames: FrameFeatures, mask: torch.Tensor) -> list[torch.Tensor]:
        """Returns the logits (B,C_k) of each label, from the features of frames and the mask (B,T) of real ones."""
        embed = self.model.head.encode_video(frames, mask).embed
        return list(self.classifier(unit(embed) * embed.shape[-1] ** 0.5).split([len(c) for c in self.classes], 1))

    @torch.inference_mode()
    def classify(
        self,
        video: Path,
        *,
        views: int = 1,
        start_s: float | None = None,
        end_s: float | None = None,
        decoder: Decoder = "pyav",
    ) -> list[list[LabelProb]]:
        """Returns the classes of each label with their probabilities, the most probable first.

        Args:
            video: The video.
            views: The probabilities are averaged over this many samples of frames, which lie between each other.
            start_s, end_s: The part of the video in seconds. None means its start and its end.
            decoder: What decodes the frames.

        Raises:
            VideoError: If the video cannot be read.
        """
        visual, most = self.model.visual, views * self.frames
        assert visual is not None  # `train/recognize.py` refuses models without
        rate = {"fps": views * self.fps, "max_frames": most} if self.fps else {"frames": most}
        sampling = SamplingConfig(**rate, start_s=start_s, end_s=end_s, decoder=decoder)  # pyright: ignore
        shown = decode(video, sampling, short_side=visual.config.image_size).pixels
        device = self.classifier.weight.device
        pixels = normalise_for(visual, RESIZE[resize_of(visual)](shown, visual.config.image_size).to(device))
        logits = [self._logits(view) for view in views_of(pixels, views) if len(view)]
        found = [torch.cat(label).softmax(1).mean(0).tolist() for label in zip(*logits, strict=True)]
        return [
            sorted((LabelProb(*pair) for pair in zip(names, probs, strict=True)), key=lambda label: -label.prob)
            for names, probs in zip(self.classes, found, strict=True)
        ]

    def _logits(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        # Padded as in training, because X-CLIP's official form reads padding.
        mask = torch.arange(self.frames, device=pixels.device)[None] < len(pixels)
        padded = nn.functional.pad(pixels, (0, 0) * 3 + (0, self.frames - len(pixels)))[None]
        frames = self.model.encode_frames(padded, mask)
        return self(replace(frames, embed=frames.embed * mask[..., None]), mask)

    def save(self, folder: Path, card: str) -> None:
        """Writes the retrieval model with its head, and beside it classifier.safetensors and classes.json."""
        directory.save(self.model, folder, card)
        save_file({n: x.detach() for n, x in self.classifier.named_parameters()}, folder / CLASSIFIER_FILE)
        made = {"fps": self.fps, "frames": self.frames, "classes": self.classes}
        (folder / CLASSES_FILE).write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")

    @staticmethod
    def load(folder: Path, device: str | torch.device | None = "cpu") -> "Recogniser":
        """Loads what `save` wrote, in evaluation mode.

        Raises CheckpointError if a file is missing, or the weights do not fit.
        """
        for name in (CLASSES_FILE, CLASSIFIER_FILE):
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} has no {name}; give a directory that train/recognize.py wrote")
        made: dict[str, Any] = json.loads((folder / CLASSES_FILE).read_text(encoding="utf-8"))
        model = directory.load(folder, device)
        recogniser = Recogniser(model, tuple(map(tuple, made["classes"])), made["fps"], made["frames"])
        weights, own = load_file(folder / CLASSIFIER_FILE), recogniser.classifier.state_dict()
        if {n: x.shape for n, x in weights.items()} != {n: x.shape for n, x in own.items()}:
            raise CheckpointError(f"{folder / CLASSIFIER_FILE} does not fit the classes in {CLASSES_FILE}")
        recogniser.classifier.load_state_dict(weights)
        return recogniser.to(next(model.parameters()).device).eval()


def views_of(frames: torch.Tensor, views: int, axis: int = 0) -> Sequence[torch.Tensor]:
    """Returns every `views`-th frame from each of the first `views` ones on, so that each view spans the video."""
    every = torch.arange(frames.shape[axis], device=frames.device)
    return [frames.index_select(axis, every[start::views]) for start in range(views)]
