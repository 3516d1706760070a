"""The command `videollm export --onnx`, which writes the networks beside the language model as ONNX files.

Shapes: T frames, P pixels of a side, N tokens per frame, D token width, E width of the space shared by frames and
texts, C concepts, B texts, L text tokens, S segments, F frames of a segment, Q query tokens, H language-model width.
"""

import json
import logging
import shutil
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from videollm import assets
from videollm.checkpoint import load_directory
from videollm.encoders.lite import LiteEncoder
from videollm.errors import CheckpointError
from videollm.models.visual_prompting import VisualBatch, VisualPrompting

OPSET = 20  # the first with Gelu
DESCRIPTION = "model.json"


class FrameTower(nn.Module):
    """Resized frames float32 (T,3,P,P) in [0,255] to tokens (T,N,D), embed (T,E) and concepts (T,C)."""

    def __init__(self, encoder: LiteEncoder):
        super().__init__()
        self.encoder, self.network = encoder, encoder.network

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.encoder.features_from_logits(self.encoder.classify(self.network.layers((pixels - 127) / 128)))
        return features.tokens, features.embed, features.concepts


class TextTower(nn.Module):
    """Token ids int64 (B,L) and a bool mask (B,L), False at padding, to tokens (B,L,E) and embed (B,E)."""

    def __init__(self, encoder: LiteEncoder):
        super().__init__()
        self.network, self.centre = encoder.sentences.network, encoder.centre

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, embed = self.network(ids, mask)
        return tokens - self.centre, F.normalize(embed - self.centre, dim=-1)


class SegmentTower(nn.Module):
    """Frame tokens (S,F,N,D), times in seconds (S,F) and a bool mask (S,F), False at padding, to the tokens (S,Q,H)
    that stand among the word embeddings of the language model."""

    def __init__(self, llm: VisualPrompting):
        super().__init__()
        self.llm = llm

    def forward(self, tokens: torch.Tensor, times_s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.llm.embed_segments(VisualBatch(tokens, times_s, mask))


def export_onnx(source: Path, target: Path) -> list[Path]:
    """Writes the frame encoder, the temporal module and the text tower of the checkpoint `source`, in float32.

    The numbers of frames, segments, texts and tokens are free. `target` also gets the text tower's tokenizer, and
    `model.json` with what the files alone do not say: the words of the concepts, and how frames and texts become
    inputs.

    Returns the ONNX files.

    Raises:
        CheckpointError: If `target` is not empty, or the frame encoder is not that of `lite`.
        ModuleNotFoundError: Without the extra `onnx`.
    """
    if target.exists() and any(target.iterdir()):
        raise CheckpointError(f"{target} is not empty; give a new directory")
    import_module("onnxscript")  # by which PyTorch exports; it would end in an error of its own
    model = load_directory(source, "cpu")
    encoder, llm = model.encoder, model.llm
    if not isinstance(encoder, LiteEncoder):
        raise CheckpointError(f"{source}: its frame encoder is {encoder.name}; only lite's is exported to ONNX")

    llm.temporal.float()
    llm.visual_norm.float()
    target.mkdir(parents=True, exist_ok=True)
    files = [target / f"{name}.onnx" for name in ("frame_encoder", "temporal_module", "text_tower")]
    side, many, some = encoder.image_size, torch.export.Dim.DYNAMIC, 3
    _write(
        FrameTower(encoder),
        {"pixels": torch.zeros(some, 3, side, side)},
        ("tokens", "embed", "concepts"),
        {"pixels": {0: many}},
        files[0],
    )
    shape = some, model.config.segments.frames
    _write(
        SegmentTower(llm),
        {
            "tokens": torch.zeros(*shape, encoder.tokens_per_frame, encoder.token_dim),
            "times_s": torch.zeros(shape),
            "mask": torch.ones(shape, dtype=torch.bool),
        },
        ("query_tokens",),
        {name: {0: many, 1: many} for name in ("tokens", "times_s", "mask")},
        files[1],
    )
    _write(
        TextTower(encoder),
        {"ids": torch.ones(shape, dtype=torch.int64), "mask": torch.ones(shape, dtype=torch.bool)},
        ("tokens", "embed"),
        {name: {0: many, 1: many} for name in ("ids", "mask")},
        files[2],
    )
    sentences = encoder.sentences.model
    shutil.copy(assets.fetch(sentences.asset) / "tokenizer.json", target)
    description = {
        "model": model.config.name,
        "frames": f"RGB; the shorter side resized to {side} pixels (bicubic, antialiased), the middle cut out",
        "texts": f"{sentences.prefix!r} and the text; tokenizer.json, at most {sentences.max_tokens} tokens, padding 0",
        "scale": encoder.scale,
        "concepts": encoder.vocabulary.words,
    }
    (target / DESCRIPTION).write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    return files


def _write(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: tuple[str, ...],
    dynamic: dict[str, dict[int, object]],
    file: Path,
) -> None:
    """Traces a module with these inputs and writes it. dynamic: the axes of each input whose length is free."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # says which operators it does not need
    program = torch.onnx.export(
        module.eval().requires_grad_(False),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=dynamic,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # since no file was given
    program.optimize()
    program.save(file)
