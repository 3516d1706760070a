"""The command `videollm export`, which writes a checkpoint as a plain language model that any server can load, and a
projector."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from videollm.checkpoint import load_adapter, load_directory, save
from videollm.config import Dtype
from videollm.device import resolve_dtype
from videollm.encoders.tags import Tag
from videollm.errors import CheckpointError
from videollm.features.encode import SegmentFeatures
from videollm.model import OWN, Model, base
from videollm.models.language import load_language_model
from videollm.models.processor import Message, Prompt

FOLDER = "language_model"
MERGED = 1e-4  # largest change of a logit, as a share of the largest logit, that float32 rounding explains


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What exporting changed, measured on the logits of all positions of a prompt with two segments.

    Attributes:
        largest_logit: The largest absolute value before.
        merging: The largest change by merging the adapter, in float32.
        rounding: The largest change by merging and by the dtype of the export together.
    """

    largest_logit: float
    merging: float
    rounding: float


def export(source: Path, target: Path, dtype: Dtype = "bfloat16") -> Proof:
    """Merges the adapter of the checkpoint `source` and writes the checkpoint directory `target`.

    `target/language_model` is an ordinary transformers directory with its tokenizer. A 4-bit base is dequantised first,
    because the adapter was trained on its dequantised values. A language model that was trained as a whole is written
    in the new dtype. Everything runs on the CPU, because two copies of the language model, one of them in float32,
    rarely fit a GPU and speed does not matter here.

    Raises CheckpointError if `target` is not empty, or if merging changes the logits. Nothing is written then.
    """
    if target.exists() and any(target.iterdir()):
        raise CheckpointError(f"{target} is not empty; give a new directory")
    model = load_directory(source, "cpu", trainable=True)
    config = base(model.config.llm, source)
    model.llm.eval()
    prompt = _probe(model)
    language_model: Any = load_language_model(replace(config, dtype="float32"), "cpu")
    if config.load_in_4bit:
        language_model = language_model.dequantize().float()
    if config.lora is not None:
        language_model = load_adapter(language_model, source)
    expected = _logits(model, language_model, prompt)
    if config.lora is not None:
        language_model = language_model.merge_and_unload()
    largest, merging = expected.abs().max().item(), _difference(_logits(model, language_model, prompt), expected)
    if merging > MERGED * largest:
        raise CheckpointError(
            f"merging the adapter of {source} changes logits by {merging:.3g}, and the largest logit is {largest:.3g}; "
            "nothing was written, because such an export would answer differently"
        )
    kind = resolve_dtype(dtype, "cpu")
    rounding = _difference(_logits(model, language_model.to(kind), prompt), expected)

    name = str(kind).removeprefix("torch.")
    exported = replace(config, source=OWN + FOLDER, revision=None, dtype=name, lora=None, load_in_4bit=False)
    card = source / "card.md"
    save(replace(model, config=replace(model.config, llm=exported)), target, card.read_text() if card.exists() else "")
    language_model.save_pretrained(target / FOLDER)
    model.processor.tokenizer.save_pretrained(target / FOLDER)
    return Proof(largest_logit=largest, merging=merging, rounding=rounding)


def _probe(model: Model) -> Prompt:
    """Returns a prompt about two segments of random features."""
    generator = torch.Generator().manual_seed(0)
    shape = (model.config.segments.frames, model.encoder.tokens_per_frame, model.encoder.token_dim)
    segments = [
        SegmentFeatures(
            start_s=4.0 * i,
            end_s=4.0 * i + 4,
            tokens=torch.randn(shape, generator=generator),
            times_s=4.0 * i + torch.linspace(0, 3.5, shape[0]),
            embed=torch.zeros(model.encoder.embed_dim),
            tags=(Tag(word, 0.8),),
        )
        for i, word in enumerate(("cat", "rocket"))
    ]
    return model.processor([Message("user", "What happens in this video, and when?")], segments)


@torch.inference_mode()
def _logits(model: Model, language_model: torch.nn.Module, prompt: Prompt) -> torch.Tensor:
    model.llm.language_model = language_model
    return model.llm(torch.tensor([prompt.ids], device=model.device), prompt.visual()).logits.float()


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
