"""Numbers of captioned videos to batches of tensors: what contrastive training collates with."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from train.configs.clip import ClipRecipe
from train.configs.retrieval import RetrievalRecipe
from train.core.gradcache import TensorBatch
from train.data.augment import augmented
from train.data.frames import FrameStore, frame_store
from train.data.mix import drawn_partners, mixed_clips, mixed_texts
from train.data.pairs import CaptionPair, VideoInterval
from train.data.tower_features import TowerFeatureStore, feature_store
from videollm.errors import ConfigError
from videollm.retrieval.clip import VisionTransformer
from videollm.retrieval.inputs import Words, resize_of
from videollm.retrieval.open_clip_towers import OpenClipVision, OpenClipWords


class PairBatches:
    """Batches of videos and captions: tokens, and frames or what the frozen tower made of them.

    layers: how many of the tower's last hidden layers the head reads. words: the tokenizer of the text tower, CLIP's if
    None.
    """

    def __init__(
        self,
        pairs: Sequence[CaptionPair],
        recipe: RetrievalRecipe,
        tower: VisionTransformer | OpenClipVision,
        layers: int,
        words: Words | OpenClipWords | None = None,
    ):
        self.pairs, self.recipe = pairs, recipe
        dataset = recipe.dataset
        self.words = words or Words(dataset.max_words)
        self.frames = frame_store(
            [p.part for p in pairs],
            fps=dataset.fps or None,
            max_frames=dataset.max_frames,
            size=tower.config.image_size,
            resize=resize_of(tower),
            cache=Path(dataset.cache),
        )
        row = {part: i for i, part in enumerate(self.frames.parts)}
        self.video_of = torch.tensor([row[p.part] for p in pairs])
        self.features: TowerFeatureStore | None = None
        if recipe.network.visual == "freeze":
            self.features = feature_store(self.frames, tower, layers, Path(dataset.cache))

    def videos(self, rows: list[int]) -> dict[str, torch.Tensor]:
        """The videos with these numbers in `frames`."""
        pixels, mask = self.frames.batch(rows)
        return {"mask": mask} | ({"pixels": pixels} if self.features is None else self.features.batch(rows))

    def texts(self, texts: Sequence[str], prefix: str = "") -> dict[str, torch.Tensor]:
        """Captions as ids and mask."""
        ids, mask = self.words(texts)
        return {f"{prefix}ids": ids, f"{prefix or 'text_'}mask": mask}

    def __call__(self, rows: list[int]) -> dict[str, TensorBatch]:
        """What is random about a batch follows from the numbers of its rows, so that a resumed run sees the same."""
        with torch.random.fork_rng(devices=[]):  # that of GPUs stays as it is
            torch.default_generator.manual_seed(zlib.crc32(f"{self.recipe.seed} {rows}".encode()))
            return {"batch": self._drawn(rows)}

    def _drawn(self, rows: list[int]) -> TensorBatch:
        dataset, texts = self.recipe.dataset, [self.pairs[i].caption for i in rows]
        batch = self.videos(self.video_of[rows].tolist())
        if kinds := dataset.frame_changes:
            batch["pixels"], batch["mask"] = augmented(batch["pixels"], batch["mask"], kinds)
        false = [self._false(i) for i in rows] if self.recipe.objective.false_captions else []
        if dataset.mixes:
            partners = drawn_partners([self.pairs[i].part for i in rows])
            batch = mixed_clips(batch, partners)
            false = false and mixed_texts(false, texts, partners)
            texts = mixed_texts(texts, texts, partners)
        batch |= self.texts(texts)
        if false:
            batch |= self.texts(false, "false_")
        return batch

    def _false(self, row: int) -> str:
        false = self.pairs[row].false
        if not false:
            raise ConfigError(f"{self.pairs[row].part.video} has no false caption; set false_captions to false")
        return false[int(torch.randint(len(false), ()))]


class FrameCaptions:
    """Batches of single frames and their captions; each time a pair is seen, one frame of its part is drawn.

    The frames of a whole video are decoded once, however many of its parts have captions.
    """

    def __init__(self, pairs: Sequence[CaptionPair], recipe: ClipRecipe):
        dataset = recipe.dataset
        whole = [VideoInterval(p.part.video) for p in pairs]
        self.store: FrameStore = frame_store(
            whole,
            fps=dataset.fps or None,
            max_frames=dataset.max_frames,
            size=recipe.architecture.image,
            cache=Path(dataset.cache),
        )
        row = {part: i for i, part in enumerate(self.store.parts)}
        self.captions = [p.caption for p in pairs]
        self.choices = [(row[w], self._inside(row[w], p.part)) for w, p in zip(whole, pairs, strict=True)]
        self.words = Words(dataset.max_words)
        self.random = np.random.default_rng(recipe.seed)

    def _inside(self, row: int, part: VideoInterval) -> np.ndarray:
        times = self.store.times_s[row]
        inside = np.flatnonzero((times >= (part.start or 0)) & (times < (np.inf if part.end is None else part.end)))
        if not len(inside):
            raise ConfigError(
                f"{part.video}: no frame lies between {part.start} and {part.end} s; raise max_frames or fps"
            )
        return inside

    def __call__(self, rows: list[int]) -> dict[str, TensorBatch]:
        frames = [self.store.pixels[v, self.random.choice(inside)] for v, inside in (self.choices[i] for i in rows)]
        ids, text_mask = self.words([self.captions[i] for i in rows])
        pixels = torch.from_numpy(np.stack(frames))[:, None]
        mask = torch.ones(len(rows), 1, dtype=torch.bool)
        return {"batch": {"ids": ids, "text_mask": text_mask, "pixels": pixels, "mask": mask}}
