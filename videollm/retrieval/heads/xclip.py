"""X-CLIP: a score of four granularities: video-sentence, video-word, sentence-frame and frame-word."""

from typing import ClassVar

import torch
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import ConfigError
from videollm.retrieval.head import Need, PairwiseHead, VideoRepr, unit
from videollm.retrieval.heads.pooling import MeanPooling

TEMPERATURE = 0.01


class XCLIP(PairwiseHead):
    """X-CLIP (Ma et al. 2022), `modules/modeling_xclip.py`.

    s = n(t) is the sentence, w_l = n(word l) are the words, f_t = n(frame t) the frames, and V = n(the video vector of
    `temporal`) the video, for which `temporal` is the mean, LSTM or transformer of CLIP4Clip. With σ(x) =
    softmax(x / 0.01) and r_M(x) = Σ x · (σ(x) M):

        score = ( s A V + r_B((w_l · V)_l) + r_C((s · f_t)_t) + (r_H(r_F(G over words) over frames)
                  + r_J(r_I(G over frames) over words)) / 2 ) / 4,   G_{lt} = w_l D f_t

    All matrices start as identities. Those over words and frames have the fixed sizes `max_words` and `max_frames`. The
    official code, and `official_compat`, require exactly so many and treat padding as real. Otherwise there may be
    fewer, and padding is not read.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"frame", "word"})

    def __init__(self, temporal: MeanPooling, max_words: int = 32, max_frames: int = 12, official_compat: bool = False):
        super().__init__()
        self.temporal, self.official_compat = temporal, official_compat
        self.max_words, self.max_frames = max_words, max_frames

        def identity(size: int) -> nn.Parameter:
            return nn.Parameter(torch.eye(size))

        self.video_sentence, self.frame_word = identity(temporal.embed_dim), identity(temporal.embed_dim)
        self.video_word, self.sentence_frame = identity(max_words), identity(max_frames)
        self.words_first, self.then_frames = identity(max_words), identity(max_frames)
        self.frames_first, self.then_words = identity(max_frames), identity(max_words)

    def encode_video(self, frames: FrameFeatures, mask: torch.Tensor) -> VideoRepr:
        short = self._short("frames", mask.shape[1], self.max_frames)
        video = self.temporal.encode_video(frames, mask).embed
        pad = nn.functional.pad
        return VideoRepr(unit(video), pad(unit(frames.embed), (0, 0, 0, short)), pad(mask, (0, short)))

    def score(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        short = self._short("words", text.mask.shape[1], self.max_words)
        pad = nn.functional.pad
        words, mask = pad(unit(text.tokens), (0, 0, 0, short)), pad(text.mask, (0, short))
        return super().score(TextFeatures(words, mask, unit(text.embed)), video)

    def _short(self, kind: str, found: int, most: int) -> int:
        if found > most or (self.official_compat and found < most):
            rule = "exactly" if self.official_compat else "at most"
            raise ConfigError(f"there are {found} {kind}, this head takes {rule} {most}: cut or pad them")
        return most - found

    def pair_elements(self, text: TextFeatures, video: VideoRepr) -> int:
        return self.max_words * self.max_frames

    def score_block(self, text: TextFeatures, video: VideoRepr) -> torch.Tensor:
        return torch.stack(self.grains(text, video)).sum(0) / 4

    def grains(self, text: TextFeatures, video: VideoRepr) -> tuple[torch.Tensor, ...]:
        """Returns the four scores (Nt,Nv): video-sentence, video-word, sentence-frame and frame-word.

        All inputs must be normalised and padded to `max_words` and `max_frames`.
        """
        frames, words = video.frames, text.tokens
        word_mask = None if self.official_compat else text.mask[:, None]
        frame_mask = None if self.official_compat else video.mask[None]
        sentence_video = text.embed @ self.video_sentence @ video.embed.mT
        to_words = torch.einsum("ald,bd->abl", words, video.embed)
        to_frames = torch.einsum("ad,btd->abt", text.embed, frames)
        by_frame, by_word = self.reduce_grid(words, frames, word_mask, frame_mask)
        grid = reduce(by_frame, self.then_frames, frame_mask) + reduce(by_word, self.then_words, word_mask)
        return (
            sentence_video,
            reduce(to_words, self.video_word, word_mask),
            reduce(to_frames, self.sentence_frame, frame_mask),
            grid / 2,
        )

    def reduce_grid(
        self, words: torch.Tensor, frames: torch.Tensor, word_mask: torch.Tensor | None, frame_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns G reduced over words (Nt,Nv,T), and G reduced over frames (Nt,Nv,L)."""
        grid = torch.einsum("ald,btd->ablt", words @ self.frame_word, frames)
        by_word = reduce(grid, self.frames_first, None if frame_mask is None else frame_mask[:, :, None])
        by_frame = reduce(grid.mT, self.words_first, None if word_mask is None else word_mask[:, :, None])
        return by_frame, by_word


def reduce(x: torch.Tensor, matrix: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """r_M(x) = Σ x · (σ(x / 0.01) M) over the last axis, over what the mask allows; None: over all."""
    sharp = x / TEMPERATURE
    if mask is None:
        return (x * (sharp.softmax(-1) @ matrix)).sum(-1)
    weight = sharp.masked_fill(~mask, float("-inf")).softmax(-1) @ matrix
    return (x * weight * mask).sum(-1)


def sentence_frame_weights(text: TextFeatures, frames: torch.Tensor) -> torch.Tensor:
    """Returns the weight of each frame of video i for text i, softmax_t(n(s_i) · n(f_it)), (N,T).

    This is what X-CLIP, as a teacher, gives to the student of TeachCLIP. There is no mask and the temperature is 1, so
    that the weights are nearly uniform.
    """
    return torch.einsum("ad,atd->at", unit(text.embed), unit(frames)).softmax(-1)
