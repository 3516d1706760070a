"""The work of each process: draws a clip or a pair of clips, and writes their files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_gen.world.config import WorldConfig
from data_gen.world.scene import draw_clips
from data_gen.world.sounds import draw_sounds, samples
from data_gen.world.splits import SPLITS
from data_gen.world.truth import annotate
from data_gen.world.write import write_video

_SOUND_STREAM = 2  # keeps the random numbers of sounds apart from those of pictures and words


@dataclass(frozen=True, slots=True)
class Job:
    """The clip with this index in its split; in a split of pairs, the pair with this index."""

    config: WorldConfig
    folder: Path
    split: str
    index: int


def jobs(config: WorldConfig, folder: Path, split: str, videos: int) -> list[Job]:
    count = videos // 2 if SPLITS[split].pairs else videos
    return [Job(config, folder, split, index) for index in range(count)]


def run(job: Job) -> list[str]:
    """Writes the clips and returns their lines of annotations.jsonl."""
    clips = draw_clips(job.config, job.split, job.index)
    numbers = [job.index * len(clips) + k for k in range(len(clips))]
    names = [f"{job.split}-{number:06d}" for number in numbers]
    lines = []
    for clip, number, name, other in zip(clips, numbers, names, reversed(names), strict=True):
        sounds = wave = None
        if job.config.sounds:
            rng = np.random.default_rng([job.config.seed, _SOUND_STREAM, *job.split.encode(), number])
            sounds = draw_sounds(clip, rng, job.config.sounds)
            wave = samples(clip, sounds, rng)
        write_video(job.folder / "clips" / f"{name}.mp4", clip, job.config, wave)
        truth = annotate(
            clip,
            job.config,
            clip_id=name,
            split=job.split,
            number=number,
            order_pair=other if len(clips) == 2 else None,
            sounds=sounds,
        )
        lines.append(truth.to_json())
    return lines
