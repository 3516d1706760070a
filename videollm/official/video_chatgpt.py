"""Video-ChatGPT as a checkpoint directory (Maaz et al. 2023, https://github.com/mbzuai-oryx/Video-ChatGPT). Its encoder
is a CLIP that open_clip loads."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from videollm.checkpoint import assemble, save
from videollm.config import (
    EncoderConfig,
    LanguageModelConfig,
    ModelConfig,
    PromptConfig,
    SamplingConfig,
    SegmentConfig,
    TemporalConfig,
)
from videollm.encoders.build import build_encoder
from videollm.errors import CheckpointError
from videollm.model import OWN, Model
from videollm.models.layouts import LAYOUTS
from videollm.models.processor import Processor
from videollm.models.published.video_chatgpt import CLIP_LAYER, FRAME_ROWS, new_token_rows
from videollm.official.chat import Imported, card, check_new, load_llm, read_files

FOLDER = "language_model"
CLIP = EncoderConfig(kind="open_clip", name="ViT-L-14", pretrained="openai", layer=CLIP_LAYER, resize="nearest")
NEW_TOKENS = ["<vid_patch>", "<vid_start>", "<vid_end>"]  # in the order of their ids
PROJECTOR, EMBEDDINGS = "model.mm_projector.", "model.embed_tokens.weight"


def import_video_chatgpt(
    file: Path, llm: Path, out: Path, encoder: EncoderConfig = CLIP, device: str | None = None
) -> Imported:
    """Writes Video-ChatGPT as the checkpoint directory `out`.

    Args:
        file: The published file (video_chatgpt-7B.bin), with the projector and the embeddings of all words, of which
            the last three are new.
        llm: The directory of the language model that it was trained on (LLaVA-Lightning-7B-v1-1), with its tokenizer.
        out: The directory to write, which must be new or empty.
        encoder: The frame encoder.
        device: The device of the encoder, see `resolve_device`.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another number of words than `llm` has, or `out` is not
            empty.
    """
    check_new(out)
    state = read_files([file], {})
    expected = {f"{PROJECTOR}weight", f"{PROJECTOR}bias", EMBEDDINGS}
    if state.keys() != expected:
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise CheckpointError(f"{file} is not a file of Video-ChatGPT: missing {missing}, unknown {unknown}")
    tower = build_encoder(encoder, device)
    tokenizer, published = load_llm(llm)
    language_model = _with_new_words(published, tokenizer, state[EMBEDDINGS], llm)
    config = _config(encoder, tower.tokens_per_frame)
    video_llm = assemble(config, tower, language_model)
    output = video_llm.temporal.output
    assert isinstance(output, nn.Linear)
    if output.weight.shape != state[f"{PROJECTOR}weight"].shape:
        raise CheckpointError(
            f"the projector of {file} maps {tuple(state[f'{PROJECTOR}weight'].shape[::-1])}, but the encoder and the "
            f"language model need {tuple(output.weight.shape[::-1])}; give those that it was trained with"
        )
    output.load_state_dict({name: state[f"{PROJECTOR}{name}"].float() for name in ("weight", "bias")})
    processor = Processor(tokenizer, config)
    language_model.save_pretrained(out / FOLDER)
    tokenizer.save_pretrained(out / FOLDER)
    source = "https://github.com/mbzuai-oryx/Video-ChatGPT (Maaz et al. 2023)"
    save(Model(config, tower, processor, video_llm), out, card(config.name, [file], source))
    return Imported(
        out=str(out),
        system="Video-ChatGPT",
        parameters=sum(parameter.numel() for parameter in output.parameters()),
        visual_tokens=config.temporal.queries,
    )


def _with_new_words(language_model: Any, tokenizer: Any, embeddings: torch.Tensor, llm: Path) -> Any:
    """Returns the language model with the word embeddings of the file, and adds the three new tokens to the
    tokenizer."""
    tokenizer.add_tokens(NEW_TOKENS, special_tokens=True)
    if len(embeddings) != len(tokenizer):
        raise CheckpointError(
            f"the file has embeddings of {len(embeddings)} words, but {llm} has {len(tokenizer)} with the three tokens "
            "of a video; give the language model that the file was trained on"
        )
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    head = language_model.get_output_embeddings().weight
    with torch.no_grad():
        language_model.get_input_embeddings().weight.copy_(embeddings)
        # The head's new rows are not published. They start as the mean of the others and are never generated.
        before = head[: -len(NEW_TOKENS)]
        head[-len(NEW_TOKENS) :] = new_token_rows(before, before.mean(0))[:1]
    return language_model


def _config(encoder: EncoderConfig, tokens_per_frame: int) -> ModelConfig:
    return ModelConfig(
        name="Video-ChatGPT",
        sampling=SamplingConfig(frames=FRAME_ROWS, rule="video_chatgpt"),
        segments=SegmentConfig(frames=FRAME_ROWS),  # the whole video is one segment
        encoder=encoder,
        temporal=TemporalConfig(
            kind="video_chatgpt",
            queries=FRAME_ROWS + tokens_per_frame,
            max_frames=FRAME_ROWS,
            output_norm=False,
        ),
        llm=LanguageModelConfig(source=f"{OWN}{FOLDER}"),
        prompt=PromptConfig(
            layout="video_chatgpt", system=LAYOUTS["video_chatgpt"].system, tags=0, context=2048, max_new_tokens=512
        ),
    )
