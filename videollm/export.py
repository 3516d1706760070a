"""The command `videollm export`, which writes a checkpoint as a plain language model that any server can load, and a
projector."""

import shutil
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
from videollm.model import OWN, Model, adapted_model, base, read_config
from videollm.models.hub import load as hub
from videollm.models.hub.adapter import is_adapter, with_adapter
from videollm.models.hub.model import HubLLM
from videollm.models.hub.prompt import HubPrompt
from videollm.models.language import load_language_model
from videollm.models.processor import Message, Prompt

FOLDER = "language_model"
PROBE = "What happens in this video, and when?"
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

    `target/language_model` is an ordinary transformers directory with its tokenizer. For an adapter of a video model of
    transformers, `target` itself is such a directory. A 4-bit base is dequantised first, because the adapter was
    trained on its dequantised values. A language model that was trained as a whole is written in the new dtype. Virtual
    tokens cannot be merged, and stay in `target/adapter`. Everything runs on the CPU, because two copies of the
    language model, one of them in float32, rarely fit a GPU and speed does not matter here.

    Raises CheckpointError if `target` is not empty, or if merging changes the logits. Nothing is written then.
    """
    if target.exists() and any(target.iterdir()):
        raise CheckpointError(f"{target} is not empty; give a new directory")
    if is_adapter(source):
        return _export_tuned(source, target, dtype)
    model = load_directory(source, "cpu", trainable=True)
    config = base(model.config.llm, source)
    model.llm.eval()
    prompt = _probe(model)
    language_model: Any = load_language_model(replace(config, dtype="float32"), "cpu")
    if config.load_in_4bit:
        language_model = language_model.dequantize().float()
    if config.layer_adapter is not None:
        language_model = load_adapter(language_model, source)
    expected = _logits(model, language_model, prompt)
    if config.layer_adapter is not None:
        language_model = language_model.merge_and_unload()
    largest, merging = expected.abs().max().item(), _difference(_logits(model, language_model, prompt), expected)
    _check_merging(source, merging, largest)
    kind = resolve_dtype(dtype, "cpu")
    rounding = _difference(_logits(model, language_model.to(kind), prompt), expected)

    name = str(kind).removeprefix("torch.")
    kept = config.lora if config.virtual_tokens else None
    exported = replace(config, source=OWN + FOLDER, revision=None, dtype=name, lora=kept, load_in_4bit=False)
    card = source / "card.md"
    save(replace(model, config=replace(model.config, llm=exported)), target, card.read_text() if card.exists() else "")
    language_model.save_pretrained(target / FOLDER)
    model.processor.tokenizer.save_pretrained(target / FOLDER)
    return Proof(largest_logit=largest, merging=merging, rounding=rounding)


def _check_merging(source: Path, merging: float, largest: float) -> None:
    if merging > MERGED * largest:
        raise CheckpointError(
            f"merging the adapter of {source} changes logits by {merging:.3g}, and the largest logit is {largest:.3g}; "
            "nothing was written, because such an export would answer differently"
        )


def _export_tuned(source: Path, target: Path, dtype: Dtype) -> Proof:
    """Merges an adapter for a video model of transformers, and writes a directory of transformers."""
    directory, cpu = adapted_model(source), torch.device("cpu")
    config, _ = read_config(source)
    base = hub.load_model(directory, replace(config.llm, dtype="float32"), cpu)
    processor = hub.load_processor(directory, config)
    frames = torch.linspace(0, 255, 8 * 3 * 64 * 64).reshape(8, 3, 64, 64).to(torch.uint8)
    times_s = torch.linspace(0, 3.5, 8)
    shown = SegmentFeatures(start_s=0, end_s=4, tokens=frames, times_s=times_s, embed=torch.zeros(1), tags=())
    prompt = processor([Message("user", PROBE), Message("assistant", "A cat.")], [shown])
    assert isinstance(prompt, HubPrompt)

    @torch.inference_mode()
    def logits(language_model: Any) -> torch.Tensor:
        return HubLLM(language_model.eval()).labelled_logits([prompt])

    adapted = with_adapter(base, config.name, source)
    expected = logits(adapted.language_model)
    merged = adapted.language_model.merge_and_unload()
    largest, merging = expected.abs().max().item(), _difference(logits(merged), expected)
    _check_merging(source, merging, largest)
    rounding = _difference(logits(merged.to(resolve_dtype(dtype, "cpu"))), expected)
    merged.save_pretrained(target)
    processor.processor.save_pretrained(target)
    if (source / "card.md").is_file():
        shutil.copy(source / "card.md", target)
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
    return model.processor([Message("user", PROBE)], segments)


@torch.inference_mode()
def _logits(model: Model, language_model: torch.nn.Module, prompt: Prompt) -> torch.Tensor:
    model.llm.language_model = language_model
    return model.llm(torch.tensor([prompt.ids], device=model.device), prompt.visual()).logits.float()


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
