"""The recorded weights of a published system as a person has them: its files, and the language model under it."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.encoders.conftest import write_model
from tests.models.published.legacy_tokenizer import llama_tokenizer
from tests.models.published.recorded import Recorded
from videollm.cli import main
from videollm.config import EncoderConfig, PromptLayoutName
from videollm.datasets.schema import Message
from videollm.features.encode import SegmentFeatures
from videollm.model import Model
from videollm.models.processor import Prompt
from videollm.models.published.llama import build_llama
from videollm.models.published.system import StateShapes
from videollm.official.video_llama import import_video_llama
from videollm.official.videochat2 import import_videochat2

EVIDENCE = EncoderConfig(kind="debug", name="debug", dtype="float32")
WORDS, WIDTH, CLIP_WIDTH = 448, 40, 32  # of the tiny Video-ChatGPT


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


def write_video_llama(data: Recorded, folder: Path) -> list[Path]:
    """EVA's file has one block more and a head, as the published one."""
    eva = part(data, "visual_encoder.", "visual_encoder.")
    last = data.config["vit"]["depth"]
    eva |= {n.replace("blocks.0.", f"blocks.{last}."): t for n, t in eva.items() if n.startswith("blocks.0.")}
    eva |= {"norm.weight": torch.ones(1), "head.weight": torch.ones(1)}
    frozen = part(data, ("Qformer.", "ln_vision.", "query_tokens"))
    trained = part(data, ("video_", "llama_proj."))
    for name, state in (("eva", eva), ("blip2", {"model": frozen}), ("vl", {"model": trained})):
        torch.save(state, folder / f"{name}.pth")
    write_llm(data, folder / "llm")
    return [folder / f"{name}.pth" for name in ("eva", "blip2", "vl")]


def import_tiny_video_llama(data: Recorded, files: list[Path], out: Path, layout: PromptLayoutName) -> Path:
    settings = {"vit": {"heads": 4, "blocks": data.config["vit"]["depth"]}, "qformer": data.config["qformer"]}
    import_video_llama(files, files[0].parent / "llm", out, layout, EVIDENCE, settings)
    return out


def import_tiny_videochat2(data: Recorded, folder: Path) -> Path:
    frozen = part(data, "vision_encoder.") | {"temp": torch.tensor(0.07), "itm_head.bias": torch.zeros(2)}
    base = part(data, "llama_model.").keys() - {n for n in data.state if ".lora_" in n}
    trained = {n: t for n, t in data.state.items() if n not in frozen.keys() | base}
    torch.save(frozen, folder / "umt_qformer.pth")
    torch.save({"model": trained}, folder / "stage3.pth")
    write_llm(data, folder / "llm", "llama_model.base_model.model.")
    settings = {**data.config, "instruction": data.input["demo/instruction_ids"][0].tolist()}
    made = import_videochat2(
        [folder / "umt_qformer.pth", folder / "stage3.pth"], folder / "llm", folder / "out", EVIDENCE, settings
    )
    assert made.visual_tokens == 7
    return folder / "out"


def write_video_chatgpt(folder: Path) -> Path:
    """What a person has: the published file, the language model under it, CLIP."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    llama_tokenizer([]).save_pretrained(folder / "llm")
    write_model(folder / "clip")
    state = {
        "model.mm_projector.weight": torch.randn(WIDTH, CLIP_WIDTH),
        "model.mm_projector.bias": torch.randn(WIDTH),
        "model.embed_tokens.weight": torch.randn(WORDS + 3, WIDTH),
    }
    torch.save(state, folder / "video_chatgpt.bin")
    return folder


def import_tiny_video_chatgpt(parts: Path) -> Path:
    arguments = ["import-official", str(parts / "video_chatgpt.bin"), "--system", "Video-ChatGPT"]
    arguments += ["--llm", str(parts / "llm"), "--vision", str(parts / "clip"), "--out", str(parts / "out")]
    assert main(arguments) == 0
    return parts / "out"
