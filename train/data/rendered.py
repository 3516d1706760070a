"""Clips of the rendered world as arrays, drawn while a run trains: no clip is seen twice, and no file is kept.

Shapes: F frames of a clip, S the side of a frame in pixels, N samples of sound.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from data_gen.generators.template import TemplateGenerator
from data_gen.world.clip import WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.draw import frames
from data_gen.world.language import LANGUAGES
from data_gen.world.meaning import in_order
from data_gen.world.questions import ask
from data_gen.world.scene import draw_clips
from data_gen.world.sound_questions import OMNI_QUESTION, ask_sounds, heard_sentence, omni_caption
from data_gen.world.sounds import BACKGROUND, RATE, Sound, draw_sounds, samples
from data_gen.world.truth import annotate
from videollm.datasets.world import annotated_clip
from videollm.datasets.world_annotation import WorldAnnotation

SPLIT = "train"
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (BT.601)
ENGLISH = LANGUAGES[0]
CAPTION_QUESTION = "What does this video show?"
_CHECKED = TemplateGenerator(languages=("en",), tasks=("choice", "locate"))


@dataclass(frozen=True, slots=True)
class RenderedClip:
    """A clip before it is painted. index: its number in its world, which seeds what is drawn of it at random. sounds:
    what is heard in it."""

    clip: WorldClip
    config: WorldConfig
    index: int
    sounds: tuple[Sound, ...] = ()

    def pixels(self, chosen: np.ndarray | None = None) -> torch.Tensor:
        """Returns uint8 (F,3,S,S), with colours at half the resolution, as video files store them.

        chosen: increasing numbers of the frames to paint; None paints all of them.
        """
        count = self.clip.frame_count
        kept = self.clip if chosen is None else self.clip.variant(dropped=frozenset(range(count)) - {*chosen.tolist()})
        painted = np.stack([*frames(kept, self.config.size, (), None)])
        return halve_colours(torch.from_numpy(painted).movedim(-1, 1))

    def times_s(self) -> torch.Tensor:
        """Returns the times of all frames in seconds, float32 (F,)."""
        return torch.tensor([self.clip.time_s(frame) for frame in range(self.clip.frame_count)])

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.index)

    def samples(self) -> torch.Tensor:
        """Returns the sound of the clip, float32 (N,), 16,000 samples a second."""
        return torch.from_numpy(samples(self.clip, self.sounds, self.rng()))

    def turns(self, count: int) -> list[tuple[str, str]]:
        """Returns the clip's short caption and `count` of its questions at random, each with the answer, in English, as
        `make_instructions.py` words them."""
        rng = self.rng()
        asked = ask(self.clip, rng)
        caption = CAPTION_QUESTION, ENGLISH.short(in_order(self.clip, self.clip.events))
        chosen = [asked[int(k)] for k in rng.permutation(len(asked))[:count]]
        return [caption, *((ENGLISH.question(q, int(rng.integers(1000))), ENGLISH.reply(q.answer)) for q in chosen)]

    def checked_turns(self) -> list[tuple[str, str]]:
        """Returns the clip's questions whose answers `train/rl.py` can check, choices and spans of time, each with the
        answer, in English, as `make_instructions.py` words them."""
        known = self.annotation()
        drafts = _CHECKED.drafts(annotated_clip(known, Path(known.video)))
        return [(asked.content, answer.content) for asked, answer in (draft.messages for draft in drafts)]

    def annotation(self) -> WorldAnnotation:
        """Returns everything that is true of the clip, as `make_world.py` writes it."""
        name = f"{SPLIT}-{self.index}"
        return annotate(self.clip, self.config, clip_id=name, split=SPLIT, number=self.index, order_pair=None)

    def sound_turns(self) -> list[tuple[str, str, str]]:
        """Returns the questions about the clip's sounds, see `ask_sounds`, as kind, words and answer."""
        asked = ask_sounds(self.clip, self.sounds, self.rng())
        return [(one.kind, one.question, one.answer) for one in asked]

    def omni_turn(self) -> tuple[str, str]:
        """Returns the question about what is seen and heard, and its answer, which ends with `heard`."""
        return OMNI_QUESTION, omni_caption(self.clip, self.sounds)

    @property
    def heard(self) -> str:
        """A sentence that names the sounds in order of time."""
        return heard_sentence(self.sounds)


def background(seconds: float, seed: int) -> torch.Tensor:
    """Returns the noise that is behind all sounds, float32 (N,)."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return torch.from_numpy((BACKGROUND * noise).astype(np.float32))


def halve_colours(pixels: torch.Tensor) -> torch.Tensor:
    """Returns uint8 pixels (F,3,S,S) whose colours, but not their brightness, are those of squares of 2x2 pixels
    (yuv420p)."""
    images = pixels.float()
    brightness = (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    colours = F.interpolate(F.avg_pool2d(images - brightness, 2), scale_factor=2, mode="bilinear")
    return (brightness + colours).round().clamp(0, 255).to(torch.uint8)


class RenderedClips(Dataset[RenderedClip]):
    """The world of `seed`: clips of one or two things at 64 pixels and 8 frames a second, 3 seconds each.

    Every index gives a clip, and always the same one. `make_world.py` draws test clips from seed 0, which training must
    not use. With `sound`, events are heard.
    """

    def __init__(self, count: int, seed: int, *, sound: bool = False):
        self.count, self.sound = count, sound
        self.config = WorldConfig(seed=seed, size=64, fps=Fraction(8), seconds=(3.0, 3.0), things=(1, 2))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> RenderedClip:
        (clip,) = draw_clips(self.config, SPLIT, index)
        sounds = draw_sounds(clip, np.random.default_rng([self.config.seed, index])) if self.sound else ()
        return RenderedClip(clip, self.config, index, sounds)
