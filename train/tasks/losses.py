"""The losses of stage 1: one small class each, switched on by its weight in the recipe.

Shapes: B pairs of a video and a text, S segments, T frames, N tokens a frame, D encoder width, Q queries, W Q-Former
width, L text tokens, E shared width, R ranks.

Each loss is a mean over one rank's pairs. Where pairs are compared with each other, those of all ranks are, so that R
ranks with B pairs each give the values and gradients of one with R x B.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.core.gather import gather
from videollm.models.aligner import Aligner
from videollm.models.blip2 import caption_loss, contrastive_loss, matching_loss, sample_negatives
from videollm.models.qformer import WAVES, KeyValue, time_features
from videollm.models.video_llm import VideoLLM, VisualBatch

IGNORE = -100


def gather_rows(x: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, in order of rank, each with its own number of rows; gradients flow back to theirs."""
    count = gather({"rows": torch.tensor([len(x)], device=x.device)})["rows"].tolist()
    padded = torch.cat((x, x.new_zeros(max(count) - len(x), *x.shape[1:])))
    parts = gather({"rows": padded})["rows"].split(max(count)) if max(count) else [x]
    return torch.cat([part[:n] for part, n in zip(parts, count, strict=True)])


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Token ids (B,L) as `Aligner.tokenize` makes them, and mask (B,L), True at real ones."""

    ids: torch.Tensor
    mask: torch.Tensor

    def to(self, *args: Any) -> "Texts":
        return Texts(ids=self.ids.to(*args), mask=self.mask.to(*args))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What the losses read. Fields that no loss of the run reads are None.

    videos: one segment a pair. groups (B,2): numbers of its video and of its text; pairs that share either fit each
    other. texts: the pairs' own. masked: the same with masked words, and masked_labels (B,L) that are `IGNORE` but
    there. changed: the texts with another verb, one a pair, and has_changed (B,).
    scenes: segments for `WordContrast`, whose names are words (S,L), word_mask (S,L); named (S,).
    prompt: arguments of `VideoLLM.forward`.
    """

    videos: VisualBatch | None = None
    groups: torch.Tensor | None = None
    texts: Texts | None = None
    masked: Texts | None = None
    masked_labels: torch.Tensor | None = None
    changed: Texts | None = None
    has_changed: torch.Tensor | None = None
    scenes: VisualBatch | None = None
    words: torch.Tensor | None = None
    word_mask: torch.Tensor | None = None
    named: torch.Tensor | None = None
    prompt: dict[str, Any] | None = None

    def to(self, *args: Any) -> "Pairs":
        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: move(v) for k, v in value.items()}
            return value if value is None else value.to(*args)

        return Pairs(**{f.name: move(getattr(self, f.name)) for f in fields(self)})


class View:
    """A batch and what several losses compute from it, once."""

    def __init__(self, llm: VideoLLM | None, aligner: Aligner | None, pairs: Pairs):
        self.llm, self._aligner, self.pairs = llm, aligner, pairs

    @property
    def aligner(self) -> Aligner:
        assert self._aligner is not None, "the run has losses on texts"
        return self._aligner

    @cached_property
    def memory(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the queries read (B,T*N,W), and where it is real (B,T*N)."""
        return self.aligner.encoder_hidden_states(self.pairs.videos)

    @cached_property
    def queries(self) -> tuple[torch.Tensor, tuple[KeyValue, ...]]:
        """Hidden states (B,Q,W), and the cache that texts continue."""
        return self.aligner.pair.encode_images(*self.memory)

    @cached_property
    def images(self) -> torch.Tensor:
        """(B,Q,E)."""
        return self.aligner.pair.embed_images(self.queries[0])

    @cached_property
    def embeds(self) -> torch.Tensor:
        """(B,E), of the texts."""
        return self.aligner.pair.embed_texts(self.pairs.texts.ids, self.pairs.texts.mask)

    def fits(self, groups: torch.Tensor) -> torch.Tensor:
        """(B,C) bool: which of C pairs with these groups share a video or a text with each of ours."""
        return (self.pairs.groups[:, None] == groups).any(-1)


class WordContrast(nn.Module):
    """The mean of a segment's visual tokens against the mean word embedding of its name, both ways (CLIP's symmetric
    InfoNCE). Needs no text tower. Segments of the same name are all right answers to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, view: View) -> torch.Tensor:
        pairs = view.pairs
        visual = F.normalize(view.llm.embed_segments(pairs.scenes).mean(1)[pairs.named], dim=-1)
        words = view.llm.get_input_embeddings()(pairs.words[pairs.named]).float()
        mask = pairs.word_mask[pairs.named]
        text = F.normalize((words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
        return contrastive(gather_rows(visual), gather_rows(text), self.log_scale.exp())


def contrastive(visual: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE over unit rows (M,H), averaged over both directions. Rows with the same text are all
    right answers to each other. In float32 also under autocast: in bfloat16 a text may not equal itself."""
    with torch.autocast(visual.device.type, enabled=False):
        visual, text = visual.float(), text.float()
        same = (text @ text.T > 1 - 1e-5).float()
        logits = scale * visual @ text.T
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Contrast(nn.Module):
    """Video-text contrast of BLIP-2: the best query against the text, among the pairs of all ranks, which stand
    without gradient on the other side."""

    def forward(self, view: View) -> torch.Tensor:
        pair, fits = view.aligner.pair, view.fits(gather_rows(view.pairs.groups))
        to_text = pair.similarity(view.images, gather_rows(view.embeds.detach()))
        to_image = pair.similarity(gather_rows(view.images.detach()), view.embeds).T
        return (contrastive_loss(to_text, fits) + contrastive_loss(to_image, fits)) / 2


class Matching(nn.Module):
    """Video-text matching of BLIP-2: does the text belong to the video? For each text a video and for each video a
    text that do not fit, the likelier the more similar (hard negatives), of this rank's pairs."""

    def negatives(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """For each text the number of a video, for each video that of a text."""
        fits = view.fits(view.pairs.groups)
        similarity = view.aligner.pair.similarity(view.images.detach(), view.embeds.detach())
        return sample_negatives(similarity.T, fits), sample_negatives(similarity, fits)

    def forward(self, view: View) -> torch.Tensor:
        (memory, real), texts = view.memory, view.pairs.texts
        video, text = self.negatives(view)
        logits = view.aligner.pair.match(
            torch.cat((memory, memory[video], memory)),
            torch.cat((texts.ids, texts.ids, texts.ids[text])),
            torch.cat((texts.mask, texts.mask, texts.mask[text])),
            torch.cat((real, real[video], real)),
        )
        return matching_loss(logits)


class TextCaption(nn.Module):
    """Captioning of BLIP-2: the Q-Former's text path writes the text, given the queries."""

    def forward(self, view: View) -> torch.Tensor:
        texts = view.pairs.texts
        return caption_loss(
            view.aligner.pair.predict_words(texts.ids, texts.mask, view.queries[1]), texts.ids, texts.mask
        )


class LanguageCaption(nn.Module):
    """The frozen language model writes the text, given the visual tokens."""

    def forward(self, view: View) -> torch.Tensor:
        return view.llm(**view.pairs.prompt).loss


class MaskedWords(nn.Module):
    """Masked words of the text, read together with the video (masked language modelling; VideoBERT, UniVL)."""

    def forward(self, view: View) -> torch.Tensor:
        pair, (memory, real), pairs = view.aligner.pair, view.memory, view.pairs
        hidden, _ = pair.qformer(memory, real, ids=pairs.masked.ids, text_mask=pairs.masked.mask)
        words = hidden[:, pair.qformer.config.queries :]
        chosen = pairs.masked_labels != IGNORE
        logits = pair.word_head(pair.word_transform(words[chosen]))
        return F.cross_entropy(logits, pairs.masked_labels[chosen])


class MaskedFrames(nn.Module):
    """Frames that the queries do not see are told from all others of the batch by what the queries saw and the time
    (masked frame modelling by contrast; HERO, Li et al. 2020).

    share: of frames that are hidden, at least one and never all.
    """

    def __init__(self, width: int, token_dim: int, share: float = 0.3, temperature: float = 0.1):
        super().__init__()
        self.share, self.temperature = share, temperature
        self.time = nn.Linear(2 * WAVES, width)
        self.read = nn.MultiheadAttention(width, 1, batch_first=True)
        self.predict = nn.Linear(width, token_dim)

    def hidden_frames(self, mask: torch.Tensor) -> torch.Tensor:
        """(B,T) bool: a random choice among the frames that mask (B,T) marks, none where there is only one."""
        order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2).argsort(1).argsort(1)
        frames = mask.sum(1)
        count = torch.minimum((frames * self.share).ceil().long(), frames - 1)
        return order < count[:, None]

    def forward(self, view: View) -> torch.Tensor:
        visual, (memory, real) = view.pairs.videos, view.memory
        hidden = self.hidden_frames(visual.mask)
        seen = real & ~hidden.repeat_interleave(memory.shape[1] // hidden.shape[1], dim=1)
        queries, _ = view.aligner.pair.encode_images(memory, seen)
        times = visual.times_s - visual.times_s[:, :1]
        asked = self.time(time_features(times).to(memory.dtype))
        said = self.predict(self.read(asked, queries, queries, need_weights=False)[0])
        frames = visual.tokens.to(memory.dtype).mean(2)
        frames = frames - frames[visual.mask].mean(0)  # what all frames share tells none apart
        numbers = torch.arange(hidden.numel(), device=hidden.device).view_as(hidden)
        candidates = F.normalize(frames[visual.mask], dim=-1)
        logits = F.normalize(said[hidden], dim=-1) @ candidates.T / self.temperature
        place = torch.full((hidden.numel(),), -1, device=hidden.device)
        place[numbers[visual.mask]] = torch.arange(len(candidates), device=hidden.device)
        return F.cross_entropy(logits, place[numbers[hidden]]) if hidden.any() else said.sum() * 0


class FrameOrder(nn.Module):
    """Do the frames stand in their order? For every second video they do not (Misra et al. 2016, Shuffle and Learn)."""

    def __init__(self, width: int):
        super().__init__()
        self.head = nn.Linear(width, 2)

    def logits(self, view: View, visual: VisualBatch) -> torch.Tensor:
        memory, real = view.aligner.encoder_hidden_states(visual)
        return self.head(view.aligner.pair.encode_images(memory, real)[0].mean(1))

    def forward(self, view: View) -> torch.Tensor:
        visual = view.pairs.videos
        mixed = torch.rand(len(visual.mask), device=visual.mask.device) < 0.5
        return F.cross_entropy(self.logits(view, shuffle(visual, mixed)), mixed.long())


def shuffle(visual: VisualBatch, which: torch.Tensor) -> VisualBatch:
    """Where which (B,) says so, the frames (B,T,N,D) in another order at the same times."""
    keys = torch.rand(visual.mask.shape, device=visual.mask.device).masked_fill(~visual.mask, 2)
    steps = torch.arange(keys.shape[1], device=keys.device).expand_as(keys)
    order = torch.where(which[:, None], keys.argsort(1), steps)
    tokens = visual.tokens.gather(1, order[..., None, None].expand_as(visual.tokens))
    return VisualBatch(tokens, visual.times_s, visual.mask)


class VerbContrast(nn.Module):
    """The text against the same text with another verb (Momeni et al. 2023, Verbs in Action)."""

    def forward(self, view: View) -> torch.Tensor:
        pair, pairs = view.aligner.pair, view.pairs
        changed = pair.embed_texts(pairs.changed.ids, pairs.changed.mask)
        cosines = [torch.einsum("bqe,be->bq", view.images, texts).amax(-1) for texts in (view.embeds, changed)]
        gain = (cosines[0] - cosines[1]) / pair.temperature
        return (F.softplus(-gain) * pairs.has_changed).sum() / pairs.has_changed.sum().clamp(min=1)


# By the recipe's field that weighs it. width and token_dim: of the Q-Former and of the encoder.
LOSSES: dict[str, Callable[[int, int], nn.Module]] = {
    "contrastive": lambda width, token_dim: WordContrast(),
    "caption": lambda width, token_dim: LanguageCaption(),
    "itc": lambda width, token_dim: Contrast(),
    "itm": lambda width, token_dim: Matching(),
    "itg": lambda width, token_dim: TextCaption(),
    "mlm": lambda width, token_dim: MaskedWords(),
    "mfm": lambda width, token_dim: MaskedFrames(width, token_dim),
    "order": lambda width, token_dim: FrameOrder(width),
    "verbs": lambda width, token_dim: VerbContrast(),
}
WITHOUT_TEXT_PATH = {"contrastive", "caption"}


class Alignment(nn.Module):
    """A VideoLLM whose language model is frozen, and the losses whose weight is not zero."""

    accepts_loss_kwargs = False  # each loss is a mean over the batch: Trainer divides by the accumulated batches

    def __init__(self, llm: VideoLLM, tokenizer: Any, weights: dict[str, float]):
        super().__init__()
        self.llm = llm
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.aligner = Aligner(llm.temporal, tokenizer) if self.weights.keys() - WITHOUT_TEXT_PATH else None
        width = 0 if self.aligner is None else self.aligner.pair.qformer.config.width
        self.losses = nn.ModuleDict({name: LOSSES[name](width, llm.config.token_dim) for name in self.weights})

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        self.llm.gradient_checkpointing_enable(**options)

    def forward(self, pairs: Pairs, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """`loss`, and each loss by itself. labels: the batch's, which tell Trainer that there is a loss to evaluate."""
        view = View(self.llm, self.aligner, pairs)
        parts = {name: loss(view) for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}
