"""The recorded weights of a published system as a person has them: its files, and the language model under it."""

from pathlib import Path

import torch

from tests.models.published.legacy_tokenizer import llama_tokenizer
from tests.models.published.recorded import Recorded
from videollm.config import EncoderConfig
from videollm.datasets.schema import Message
from videollm.features.encode import SegmentFeatures
from videollm.model import Model
from videollm.models.processor import Prompt
from videollm.models.published.llama import build_llama
from videollm.models.published.system import StateShapes

EVIDENCE = EncoderConfig(kind="debug", name="debug", dtype="float32")


def part(data: Recorded, prefix: str | tuple[str, ...], strip: str = "") -> dict[str, torch.Tensor]:
    """The recorded tensors whose names begin with `prefix`, without `strip`."""
    return {name.removeprefix(strip): tensor for name, tensor in data.state.items() if name.startswith(prefix)}


def write_llm(data: Recorded, folder: Path, prefix: str = "llama_model.") -> Path:
    llama = build_llama(StateShapes(data.state), prefix, data.config["llama"])
    state = {n.replace(".base_layer", ""): t for n, t in part(data, prefix, prefix).items() if ".lora_" not in n}
    llama.load_state_dict({n: t for n, t in state.items() if not n.endswith("inv_freq")})
    llama.save_pretrained(folder)
    llama_tokenizer([]).save_pretrained(folder)
    return folder


def segment(model: Model, frames: torch.Tensor, times_s: list[float]) -> SegmentFeatures:
    """What the model sees of frames (T,H,W,3) uint8."""
    seen = model.encoder.encode_frames(frames.permute(0, 3, 1, 2))
    return SegmentFeatures(times_s[0], times_s[-1], seen.tokens, torch.tensor(times_s).double(), seen.embed[0], ())


@torch.inference_mode()
def read_prompt(
    model: Model, turns: list[list[str]], seen: SegmentFeatures
) -> tuple[Prompt, torch.Tensor, torch.Tensor]:
    """The prompt of a conversation up to its last question, its embeddings (1,L,H) and its logits (1,L,V)."""
    said = [text for turn in turns for text in turn if text is not None]
    messages = [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(said)]
    prompt = model.processor(messages, [seen])
    embeds = model.llm.embed_prompt(torch.tensor([prompt.ids]), prompt.visual())
    return prompt, embeds, model.llm.language_model(inputs_embeds=embeds).logits
