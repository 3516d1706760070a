"""Rendered clips as pairs of stage 1, whose frame tokens say what is true of each patch: those of a tower without
mistakes, so that a loss can be tried in seconds.

Shapes: T frames, N patches, D width of a token.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from train.data.captions import CaptionedSegment, number
from train.data.dense_truth import FLOW_SCALE, FrameTruth, frame_truth
from train.data.rendered import RenderedClip, RenderedClips
from train.tasks.small_language_model import write_language_model
from videollm import checkpoint
from videollm.audio_config import AudioConfig
from videollm.config import LanguageModelConfig, TemporalConfig
from videollm.encoders.audio import AudioEncoder
from videollm.features.encode import SegmentFeatures
from videollm.model import Model
from videollm.models.world_tower import COLOUR_COUNT, SHAPE_COUNT, TOKEN_PARTS
from videollm.presets import DEBUG

GRID, EVERY = 4, 2  # patches along a side, and frames to a frame that is read
TOKEN_DIM = sum(TOKEN_PARTS[:-1])
EAR = AudioConfig(kind="mel", clips=24, token_dim=32, queries=4, width=64, layers=1, heads=2, dropout=0.0)
READER = TemporalConfig(kind="qformer", queries=4, width=64, layers=2, heads=4, dropout=0.0)
WORDS_SEED, WORDS_CLIPS = 100, 300  # of the clips whose words make the tokenizer


def true_tokens(truth: FrameTruth) -> torch.Tensor:
    """Returns the tokens (T,N,D) of a `WorldTower` that makes no mistake, without their coarse pixels."""
    looks = F.one_hot(truth.shape, SHAPE_COUNT), F.one_hot(truth.colour, COLOUR_COUNT)
    return torch.cat([*looks, truth.place, truth.turn, truth.flow * torch.tensor(FLOW_SCALE)], -1).flatten(1, 2)


def pair(clip: RenderedClip, hears: AudioEncoder | None = None) -> CaptionedSegment:
    """Returns the clip with its short caption, and with what an encoder hears of it."""
    text = clip.turns(0)[0][1]
    return CaptionedSegment(text, true_segment(clip, hears), (-1 - clip.index, number(text)), clip.index, None)


def true_segment(clip: RenderedClip, hears: AudioEncoder | None = None) -> SegmentFeatures:
    """Returns the whole clip as one segment of true tokens."""
    chosen = np.arange(0, clip.clip.frame_count, EVERY)
    heard = hears.encode_audio(clip.samples()) if hears else None
    return SegmentFeatures(
        0.0,
        clip.clip.duration_s,
        true_tokens(frame_truth(clip.clip, chosen, GRID)),
        clip.times_s()[chosen],
        torch.zeros(1),
        (),
        audio=None if heard is None else heard.tokens,
    )


def true_reader(folder: Path, seed: int, *, hears: bool = False) -> Model:
    """Returns an untrained model that reads true tokens, and the sound if it `hears`, with a tokenizer of the world's
    words. The untrained language model is written to a folder of `folder`, unless it is there."""
    own = folder / str(seed)
    if not own.exists():
        clips = RenderedClips(WORDS_CLIPS, WORDS_SEED, sound=True)
        texts = [text for i in range(WORDS_CLIPS) for text in clips[i].omni_turn()]
        write_language_model(own, texts, width=64, layers=2, seed=seed)
    config = replace(
        DEBUG,
        llm=LanguageModelConfig(source=str(own), dtype="float32"),
        temporal=READER,
        audio=EAR if hears else DEBUG.audio,
    )
    model = checkpoint.build(config, "cpu", seed=seed)
    words = model.llm.get_input_embeddings().weight
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.llm.add_projector(config, TOKEN_DIM, GRID**2, words)  # type: ignore[arg-type]
    model.llm.config.token_dim, model.llm.config.tokens_per_frame = TOKEN_DIM, GRID**2
    return model
