"""Simulated videos for the `lite` encoder: the features of scenes whose content is known.

`lite` sees a frame as class posteriors, so posteriors can be simulated without any image. A scene holds a main thing
and sometimes others. Its logits are similarities of classifier rows to those things, plus noise that the whole scene
shares and noise that drifts from frame to frame. Both have the classifier's own correlations, so that similar classes
are mistaken for each other. The defaults of `Noise` match real clips in spread, largest posterior and persistence.
"""

import random
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from data_gen.simulation.senses import NO_SENSES, Senses, find
from videollm.config import ModelConfig
from videollm.encoders.base import FrameFeatures, Vocabulary
from videollm.features.encode import SegmentFeatures, segment_features
from videollm.features.segments import segment
from videollm.senses.finding import NOTHING, Findings


@runtime_checkable
class PosteriorEncoder(Protocol):
    """What the simulation needs of an encoder: a linear classifier whose logits become features."""

    classifier_weight: torch.Tensor  # (classes, features)
    tokens_per_frame: int
    vocabulary: Vocabulary

    def features_from_logits(self, logits: torch.Tensor) -> FrameFeatures:
        """Logits (T,N,classes) to features, as `encode_frames` makes them of its own logits."""
        ...


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard deviations in logits; `drift` is the correlation of neighbouring frames."""

    strength: float = 7.2  # mean logit of a scene's main thing
    strength_spread: float = 1.4
    others: int = 3  # most things beside the main one
    other_probability: float = 0.4
    scene: float = 1.1
    frame: float = 0.75
    region: float = 0.5
    drift: float = 0.4
    empty_probability: float = 0.12  # of scenes with nothing that the encoder can name


@dataclass(frozen=True)
class Scene:
    """classes: indices, the main one first; empty for a scene that cannot be recognised."""

    start_s: float
    end_s: float
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Story:
    """A simulated video: its true scenes, and the segments that the encoder made of it. Segment k shows scene
    `scene_of[k]`. findings: what the senses found in all of it; each segment has its part."""

    scenes: tuple[Scene, ...]
    segments: tuple[SegmentFeatures, ...]
    scene_of: tuple[int, ...]
    findings: Findings = NOTHING


class Simulator:
    """Draws stories whose scenes contain `classes`. senses: what is found in them beside what the encoder sees."""

    def __init__(
        self,
        encoder: PosteriorEncoder,
        config: ModelConfig,
        classes: list[int],
        *,
        senses: Senses = NO_SENSES,
        noise: Noise = Noise(),
    ):
        self.encoder = encoder
        self.senses = senses
        self.config = config
        self.classes = classes
        self.noise = noise

    @cached_property
    def rows(self) -> torch.Tensor:
        """(1000, F) classifier rows, centred, unit length."""
        weight = self.encoder.classifier_weight
        return F.normalize(weight - weight.mean(0), dim=1)

    def story(self, seed: int) -> Story:
        rng = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        mains = self._mains(rng)
        # Few scenes are long and many are short, so that prompts stay of like length.
        frames_a_scene = rng.uniform(1.5, 3.4 - 0.3 * len(mains))
        interval = 1 / (self.config.sampling.fps or 2.0)
        scenes, logits, times, starts = [], [], [], []
        clock = 0.0
        for main in mains:
            frames = max(2, round(rng.lognormvariate(frames_a_scene, 0.4)))
            empty = rng.random() < self.noise.empty_probability
            classes = () if empty else (main, *self._others(rng, main))
            scenes.append(Scene(clock, clock + frames * interval, classes))
            logits.append(self._scene_logits(classes, frames, rng, generator))
            starts.append(len(times))
            times += [clock + i * interval for i in range(frames)]
            clock += frames * interval
        times_s = torch.tensor(times, dtype=torch.float64)
        features = self.encoder.features_from_logits(torch.cat(logits))
        spans = segment(times_s, self.config.segments, end_s=clock, cuts=starts[1:])
        segments = segment_features(
            features, times_s, spans, self.encoder.vocabulary, self.config.prompt, self.config.segments.frames
        )
        scene_of = tuple(sum(s <= span.frames.start for s in starts) - 1 for span in spans)
        findings = self._findings(scenes, segments, seed)
        segments = [
            replace(s, findings=findings.part(s.start_s, s.end_s, first=i == 0)) for i, s in enumerate(segments)
        ]
        return Story(tuple(scenes), tuple(segments), scene_of, findings)

    def _findings(self, scenes: list[Scene], segments: list[SegmentFeatures], seed: int) -> Findings:
        words = self.encoder.vocabulary.words
        return find(
            [(s.start_s, s.end_s) for s in scenes],
            [[words[c] for c in s.classes] for s in scenes],
            [(s.start_s, s.end_s) for s in segments],
            self.encoder.vocabulary,
            seed,
            self.senses,
        )

    def _mains(self, rng: random.Random) -> list[int]:
        """The main thing of each scene; some come back later."""
        count = rng.choices([1, 2, 3, 4, 5], [5, 5, 4, 3, 2])[0]
        new = rng.sample(self.classes, min(count, len(self.classes)))
        mains = new[:2]
        for main in new[2:]:
            mains.append(rng.choice(mains[:-1]) if rng.random() < 0.3 else main)
        return mains

    def _others(self, rng: random.Random, main: int) -> list[int]:
        count = sum(rng.random() < self.noise.other_probability for _ in range(self.noise.others))
        return [c for c in rng.sample(self.classes, min(count, len(self.classes))) if c != main]

    def _scene_logits(
        self, classes: tuple[int, ...], frames: int, rng: random.Random, generator: torch.Generator
    ) -> torch.Tensor:
        """(frames, 1 + regions, 1000): the whole frame first; each thing beside the main one fills some regions."""
        noise, rows = self.noise, self.rows
        views = self.encoder.tokens_per_frame
        strength = rng.gauss(noise.strength, noise.strength_spread)
        signal = torch.zeros(views, rows.shape[1])
        for i, c in enumerate(classes):
            weight = max(strength - (rng.uniform(0.3, 2.5) if i else 0.0), 0.0)
            where = torch.rand(views, generator=generator) < (0.5 if i else 0.9)
            where[0] = True
            signal += weight * where[:, None] * rows[c]

        def randn(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, rows.shape[1], generator=generator)

        drift = [randn(1)]
        for _ in range(frames - 1):
            drift.append(noise.drift * drift[-1] + (1 - noise.drift**2) ** 0.5 * randn(1))
        signal[1:] += noise.region * randn(views - 1)
        steady = (signal + noise.scene * randn(1)) @ rows.T  # (views, classes)
        moving = noise.frame * torch.cat(drift) @ rows.T  # (frames, classes)
        return steady + moving[:, None]
