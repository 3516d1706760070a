"""The losses of stage 1. Each is a small class, and has a weight in the recipe.

Shapes: B pairs of a video and a text, S segments, T frames, N tokens per frame, D encoder width, Q queries, W Q-Former
width, L text tokens, E shared width, R ranks.

Each loss is a mean over the pairs of one rank. Losses that compare pairs with each other compare those of all ranks, so
that R ranks with B pairs each have the values and gradients of one rank with R x B pairs.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.core.gather import gather_rows
from train.data.batches import PairBatch, fits
from train.tasks.loss_inputs import LossInputs
from videollm.models.aligner import Aligner
from videollm.models.processor import IGNORE
from videollm.models.published.blip2 import caption_loss, contrastive_loss, matching_loss, sample_negatives
from videollm.models.qformer import WAVES, time_features
from videollm.models.video_llm import VideoLLM
from videollm.models.visual_prompting import VisualBatch


class WordContrast(nn.Module):
    """Compares the mean of a segment's visual tokens with the mean word embedding of its name (CLIP's symmetric
    InfoNCE).

    It needs no text tower, because the word embeddings of the language model stand for the text. Segments with the same
    name are positives of each other, as are pairs that fit (`train.data.batches.fits`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        pairs = inputs.pairs
        visual = F.normalize(inputs.llm.embed_segments(pairs.scenes).mean(1)[pairs.named], dim=-1)
        words = inputs.llm.get_input_embeddings()(pairs.words[pairs.named]).float()
        mask = pairs.word_mask[pairs.named]
        text = F.normalize((words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        groups = None if pairs.groups is None else gather_rows(pairs.groups[pairs.named])
        fit = None if groups is None else fits(groups, groups)
        return word_contrast(gather_rows(visual), gather_rows(text), self.log_scale.exp(), fit)


def word_contrast(
    visual: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, fit: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns the symmetric InfoNCE of unit rows (M,H). Rows with the same text are positives of each other, and those
    of which `fit` (M,M) says so.

    It runs in float32 also under autocast. In bfloat16 the product of a text with itself can fall below the threshold,
    and a row would have no positive.
    """
    with torch.autocast(visual.device.type, enabled=False):
        visual, text = visual.float(), text.float()
        same = text @ text.T > 1 - 1e-5
        same = same if fit is None else same | fit
        logits = scale * visual @ text.T
    return (contrastive_loss(logits, same, smoothing=0.0) + contrastive_loss(logits.T, same, smoothing=0.0)) / 2


class VideoTextContrast(nn.Module):
    """Video-text contrast of BLIP-2 among the pairs of all ranks. A text is compared with the video's best query.

    Candidates are detached, as in the official code, so that gradients flow only through this rank's own side.
    """

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        pair, fits = inputs.aligner.pair, inputs.fits(gather_rows(inputs.pairs.groups))
        to_text = pair.similarity(inputs.images, gather_rows(inputs.embeds.detach()))
        to_image = pair.similarity(gather_rows(inputs.images.detach()), inputs.embeds).T
        return (contrastive_loss(to_text, fits) + contrastive_loss(to_image, fits)) / 2


class VideoTextMatching(nn.Module):
    """Video-text matching of BLIP-2, which classifies whether a text belongs to a video.

    Negatives are drawn from this rank's pairs, one video for each text and one text for each video. Their probability
    grows with their similarity (hard negatives).
    """

    def negatives(self, inputs: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the number of a wrong video for each text, and of a wrong text for each video, both (B,)."""
        fits = inputs.fits(inputs.pairs.groups)
        similarity = inputs.aligner.pair.similarity(inputs.images.detach(), inputs.embeds.detach())
        return sample_negatives(similarity.T, fits), sample_negatives(similarity, fits)

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        (states, real), texts = inputs.encoder_hidden_states, inputs.pairs.texts
        video, text = self.negatives(inputs)
        logits = inputs.aligner.pair.match(
            torch.cat((states, states[video], states)),
            torch.cat((texts.ids, texts.ids, texts.ids[text])),
            torch.cat((texts.mask, texts.mask, texts.mask[text])),
            torch.cat((real, real[video], real)),
        )
        return matching_loss(logits)


class TextCaption(nn.Module):
    """Captioning of BLIP-2, in which the text path of the Q-Former writes the text, given the queries."""

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        texts = inputs.pairs.texts
        return caption_loss(
            inputs.aligner.pair.predict_words(texts.ids, texts.mask, inputs.queries[1]), texts.ids, texts.mask
        )


class PrefixCaption(nn.Module):
    """Prefix language modelling (SimVLM, Wang et al. 2022) by the text path of the Q-Former.

    The queries and the first words of a text, a random number of them, are attended to in both directions; the rest is
    written word by word and alone bears the loss. A language model whose attention is causal has no such prefix: its
    loss would be a part of the terms of `LanguageCaption`.
    """

    def prefixes(self, mask: torch.Tensor) -> torch.Tensor:
        """Returns how many tokens of each text of mask (B,L) are its prefix (B,): at least the start token, and never
        all."""
        return 1 + (torch.rand(len(mask), device=mask.device) * (mask.sum(1) - 1)).long()

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        texts, prefix = inputs.pairs.texts, self.prefixes(inputs.pairs.texts.mask)
        logits = inputs.aligner.pair.predict_words(texts.ids, texts.mask, inputs.queries[1], prefix)
        written = torch.arange(texts.ids.shape[1], device=prefix.device) >= prefix[:, None]
        return caption_loss(logits, texts.ids, texts.mask & written)


class LanguageCaption(nn.Module):
    """Captioning by the frozen language model, given the visual tokens."""

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        return inputs.llm(**inputs.pairs.prompt).loss


class MaskedWords(nn.Module):
    """Masked language modelling of the text, which is read together with the video (VideoBERT, UniVL)."""

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        pair, (states, real), pairs = inputs.aligner.pair, inputs.encoder_hidden_states, inputs.pairs
        hidden, _ = pair.qformer(states, real, ids=pairs.masked.ids, text_mask=pairs.masked.mask)
        words = hidden[:, pair.qformer.config.queries :]
        chosen = pairs.masked_labels != IGNORE
        logits = pair.word_head(pair.word_transform(words[chosen]))
        return F.cross_entropy(logits, pairs.masked_labels[chosen])


class MaskedFrames(nn.Module):
    """Masked frame modelling by contrast (HERO, Li et al. 2020).

    Some frames are hidden from the queries. The loss selects each hidden frame among all frames of the batch, from the
    output of the queries and the time of the hidden frame.

    Args:
        width: W.
        token_dim: D.
        share: The share of a video's frames that are hidden. At least one frame is hidden and one is not.
        temperature: What cosines are divided by.
    """

    def __init__(self, width: int, token_dim: int, share: float = 0.3, temperature: float = 0.1):
        super().__init__()
        self.share, self.temperature = share, temperature
        self.time = nn.Linear(2 * WAVES, width)
        self.read = nn.MultiheadAttention(width, 1, batch_first=True)
        self.predict = nn.Linear(width, token_dim)

    def hidden_frames(self, mask: torch.Tensor) -> torch.Tensor:
        """Returns bool (B,T), a random choice among the real frames of mask (B,T). A video with a single frame has
        none."""
        order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2).argsort(1).argsort(1)
        frames = mask.sum(1)
        count = torch.minimum((frames * self.share).ceil().long(), frames - 1)
        return order < count[:, None]

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        visual, (states, real) = inputs.pairs.videos, inputs.encoder_hidden_states
        hidden = self.hidden_frames(visual.mask)
        seen = real & ~hidden.repeat_interleave(states.shape[1] // hidden.shape[1], dim=1)
        queries, _ = inputs.aligner.pair.encode_images(states, seen)
        times = visual.times_s - visual.times_s[:, :1]
        asked = self.time(time_features(times).to(states.dtype))
        predicted = self.predict(self.read(asked, queries, queries, need_weights=False)[0])
        frames = visual.tokens.to(states.dtype).mean(2)
        frames = frames - frames[visual.mask].mean(0)  # features that all frames share do not distinguish them
        numbers = torch.arange(hidden.numel(), device=hidden.device).view_as(hidden)
        candidates = F.normalize(frames[visual.mask], dim=-1)
        logits = F.normalize(predicted[hidden], dim=-1) @ candidates.T / self.temperature
        candidate_of = torch.full((hidden.numel(),), -1, device=hidden.device)
        candidate_of[numbers[visual.mask]] = torch.arange(len(candidates), device=hidden.device)
        return F.cross_entropy(logits, candidate_of[numbers[hidden]]) if hidden.any() else predicted.sum() * 0


class MaskedTubes(nn.Module):
    """Masked video modelling with tube masking (VideoMAE, Tong et al. 2022) and features as targets (MaskFeat, Wei et
    al. 2022).

    The same patches are hidden from the queries in all frames, so that no other frame shows them. The loss is the mean
    squared error of their normalised features, which are read from the output of the queries at the time of the frame
    and the place of the patch.

    Args:
        width: W.
        token_dim: D.
        share: The share of the patches that are hidden. At least one is hidden and one is not.
    """

    def __init__(self, width: int, token_dim: int, share: float = 0.5):
        super().__init__()
        self.share = share
        self.ask = nn.Linear(4 * WAVES, width)
        self.read = nn.MultiheadAttention(width, 1, batch_first=True)
        self.predict = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, token_dim)
        )

    def hidden_patches(self, videos: int, patches: int, device: torch.device) -> torch.Tensor:
        """Returns the numbers of the hidden patches of each video (B,K), a random choice."""
        count = min(math.ceil(patches * self.share), patches - 1)
        return torch.rand(videos, patches, device=device).argsort(1)[:, :count]

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        visual, (states, real) = inputs.pairs.videos, inputs.encoder_hidden_states
        videos, frames, patches = visual.tokens.shape[:3]
        hidden = self.hidden_patches(videos, patches, states.device)
        shown = torch.ones(videos, patches, dtype=torch.bool, device=states.device).scatter(1, hidden, False)
        queries, _ = inputs.aligner.pair.encode_images(states, real & shown.repeat(1, frames))
        times = time_features(visual.times_s - visual.times_s[:, :1])[:, :, None].expand(-1, -1, hidden.shape[1], -1)
        places = time_features(hidden.to(visual.times_s.dtype))[:, None].expand_as(times)
        asked = self.ask(torch.cat((times, places), -1).to(states.dtype)).flatten(1, 2)
        predicted = self.predict(asked + self.read(asked, queries, queries, need_weights=False)[0])
        features = F.layer_norm(visual.tokens.to(states.dtype), visual.tokens.shape[-1:])
        target = features.take_along_dim(hidden[:, None, :, None], 2)
        return F.mse_loss(predicted.view_as(target)[visual.mask], target[visual.mask])


class VideoAudioContrast(nn.Module):
    """Compares the mean of a segment's visual tokens with the mean of its tokens of audio (symmetric InfoNCE, as in
    AVTS, Korbar et al. 2018).

    Segments without sound are left out. Those of one video or with one text are positives of each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        pairs, videos = inputs.pairs, inputs.pairs.videos
        seen = inputs.llm.embed_segments(videos).mean(1)
        heard = seen[:0]
        if videos.audio is not None:
            heard = inputs.llm.embed_audio(videos.audio, videos.audio_mask).mean(1)
        visual, audio = (gather_rows(F.normalize(x.float(), dim=-1)) for x in (seen[pairs.heard], heard))
        groups = gather_rows(pairs.groups[pairs.heard])
        if not len(groups):
            return 0 * seen.sum()
        same = fits(groups, groups)
        logits = self.log_scale.exp() * visual @ audio.T
        return (contrastive_loss(logits, same, smoothing=0.0) + contrastive_loss(logits.T, same, smoothing=0.0)) / 2


class FrameOrder(nn.Module):
    """Classifies whether frames are in order. They are shuffled with probability 1/2 (Shuffle and Learn, Misra et
    al. 2016)."""

    def __init__(self, width: int):
        super().__init__()
        self.head = nn.Linear(width, 2)

    def logits(self, inputs: LossInputs, visual: VisualBatch) -> torch.Tensor:
        states, real = inputs.aligner.encoder_hidden_states(visual)
        return self.head(inputs.aligner.pair.encode_images(states, real)[0].mean(1))

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        visual = inputs.pairs.videos
        mixed = torch.rand(len(visual.mask), device=visual.mask.device) < 0.5
        return F.cross_entropy(self.logits(inputs, shuffle(visual, mixed)), mixed.long())


def shuffle(visual: VisualBatch, which: torch.Tensor) -> VisualBatch:
    """Shuffles the frames (B,T,N,D) of the videos that `which` (B,) marks. Times and padding keep their positions."""
    keys = torch.rand(visual.mask.shape, device=visual.mask.device).masked_fill(~visual.mask, 2)
    steps = torch.arange(keys.shape[1], device=keys.device).expand_as(keys)
    order = torch.where(which[:, None], keys.argsort(1), steps)
    tokens = visual.tokens.gather(1, order[..., None, None].expand_as(visual.tokens))
    return VisualBatch(tokens, visual.times_s, visual.mask)


class VerbContrast(nn.Module):
    """Compares the text with the same text that has another verb (Momeni et al. 2023, Verbs in Action)."""

    def forward(self, inputs: LossInputs) -> torch.Tensor:
        pair, pairs = inputs.aligner.pair, inputs.pairs
        changed = pair.embed_texts(pairs.changed.ids, pairs.changed.mask)
        cosines = [torch.einsum("bqe,be->bq", inputs.images, texts).amax(-1) for texts in (inputs.embeds, changed)]
        gain = (cosines[0] - cosines[1]) / pair.temperature
        return (F.softplus(-gain) * pairs.has_changed).sum() / pairs.has_changed.sum().clamp(min=1)


# The loss of each field of AlignmentLossWeights. The arguments are W, the width of the Q-Former, and D, the encoder's.
LOSSES: dict[str, Callable[[int, int], nn.Module]] = {
    "contrastive": lambda width, token_dim: WordContrast(),
    "caption": lambda width, token_dim: LanguageCaption(),
    "itc": lambda width, token_dim: VideoTextContrast(),
    "itm": lambda width, token_dim: VideoTextMatching(),
    "itg": lambda width, token_dim: TextCaption(),
    "plm": lambda width, token_dim: PrefixCaption(),
    "mlm": lambda width, token_dim: MaskedWords(),
    "mfm": lambda width, token_dim: MaskedFrames(width, token_dim),
    "mvm": lambda width, token_dim: MaskedTubes(width, token_dim),
    "audio": lambda width, token_dim: VideoAudioContrast(),
    "order": lambda width, token_dim: FrameOrder(width),
    "verbs": lambda width, token_dim: VerbContrast(),
}
WITHOUT_TEXT_PATH = {"contrastive", "caption", "audio"}


class AlignmentModel(nn.Module):
    """A VideoLLM whose language model is frozen, and the losses whose weight is not zero."""

    accepts_loss_kwargs = False  # each loss is a mean over the batch, so that Trainer averages accumulated batches

    def __init__(self, llm: VideoLLM, tokenizer: Any, weights: dict[str, float]):
        super().__init__()
        self.llm = llm
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.aligner = Aligner(llm.temporal, tokenizer) if self.weights.keys() - WITHOUT_TEXT_PATH else None
        width = 0 if self.aligner is None else self.aligner.pair.qformer.config.width
        self.losses = nn.ModuleDict({name: LOSSES[name](width, llm.config.token_dim) for name in self.weights})

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        self.llm.gradient_checkpointing_enable(**options)

    def forward(self, pairs: PairBatch, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Returns `loss`, the weighted sum, and each loss by its name. `labels` only makes Trainer evaluate the
        loss."""
        inputs = LossInputs(self.llm, self.aligner, pairs)
        parts = {name: loss(inputs) for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}
