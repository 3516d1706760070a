"""Write a tiny random diffusers pipeline: `python -m scripts.tiny_pipeline image|video|audio DIR`.

The directory has the files of Stable Diffusion, ZeroScope or AudioLDM, so everything that is said to work with such a
pipeline can be tried with it in seconds and without a network. What it makes is noise.
"""

import argparse
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers import pre_tokenizers
from transformers import (
    ClapTextConfig,
    ClapTextModelWithProjection,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    RobertaTokenizer,
    SpeechT5HifiGan,
    SpeechT5HifiGanConfig,
)

WORDS = 16  # tokens of a text
SCHEDULER = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def clip_tokenizer() -> CLIPTokenizer:
    """A tokenizer of letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=WORDS)


def clip_text(width: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=WORDS,
        bos_token_id=len(clip_tokenizer()) - 2,
        eos_token_id=len(clip_tokenizer()) - 1,
        pad_token_id=len(clip_tokenizer()) - 1,
    )
    return CLIPTextModel(config)


def autoencoder(channels: int) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )


def image() -> diffusers.DiffusionPipeline:
    """Stable Diffusion."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(3),
        text_encoder=clip_text(16),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=SCHEDULER,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def video() -> diffusers.DiffusionPipeline:
    """The text-to-video model of ModelScope and ZeroScope."""
    unet = diffusers.UNet3DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return diffusers.TextToVideoSDPipeline(
        vae=autoencoder(3),
        text_encoder=clip_text(24),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=SCHEDULER,
    )


def audio() -> diffusers.DiffusionPipeline:
    """AudioLDM."""
    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    vocab |= {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), len(vocab))}
    tokenizer = RobertaTokenizer(vocab=vocab, merges=[], model_max_length=WORDS)
    text_encoder = ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=WORDS + 2,
            projection_dim=12,
        )
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(8, 8),
        attention_head_dim=4,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=12,
        class_embeddings_concat=True,
        norm_num_groups=4,
    )
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16000,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
        )
    )
    return diffusers.AudioLDMPipeline(
        vae=autoencoder(1),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=SCHEDULER,
        vocoder=vocoder,
    )


KINDS: dict[str, Any] = {"image": image, "video": video, "audio": audio}


def write(kind: str, folder: Path) -> None:
    """Write the pipeline of a kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        KINDS[kind]().save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write(options.kind, options.folder)


if __name__ == "__main__":
    main()
