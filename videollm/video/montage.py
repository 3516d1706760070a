"""Montages: parts of several videos one after the other in one file, with their sound, titles and music."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoError, VideoFormatError
from videollm.video import pyav
from videollm.video.audio import AudioPiece, iter_audio
from videollm.video.cutting import CHUNK, QUALITY, bounds, frames_between, sound_of
from videollm.video.decoding import iter_frames
from videollm.video.target import check_target, whole_file
from videollm.video.writer import SOUND_RATE, VideoWriter

logger = logging.getLogger(__name__)

MOST_PIXELS = (1280, 720)  # width and height; smaller if the first part is smaller
TITLE_S = 2.0  # how long a title is shown
TITLE_SHARE = 0.05  # its height as a share of the picture's
MUSIC_GAIN = 0.35  # of the music where it plays under the sound of the videos
FADE_S = 1.0  # over which the music ends
SOUND_PIECE = SOUND_RATE // 2  # samples that are written at a time


@dataclass(frozen=True, slots=True)
class MontageShot:
    """A part of a video: its path, its start and end in seconds, and a line that is shown at its beginning."""

    path: str
    start_s: float
    end_s: float
    title: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a shot is in the montage.

    Attributes:
        shot: The shot. Its times are those of the first frame and of the end of the last.
        at_s: The time in the montage at which it starts, in seconds.
        fps: The frame rate of its video.
    """

    shot: MontageShot
    at_s: float
    fps: float


def write_montage(
    shots: Sequence[MontageShot],
    target: Path,
    music: str | os.PathLike[str] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> list[Placed]:
    """Writes shots one after the other as an .mp4 file, and returns where each is.

    Every frame of a shot is shown as long as in its video. Pictures have the size of the first shot, at most 1280x720,
    and black bars where their shape differs. The music plays under the sound of the videos, again and again if it is
    too short, and is faded out. `progress` is called with the seconds that are written, and those of the whole montage.

    Raises:
        ConfigError: If there is no shot, or `target` has another suffix, lies in no folder, or is one of the videos.
        VideoRangeError: If no frame starts in a shot.
        VideoError: If a video or the music cannot be read.
    """
    if not shots:
        raise ConfigError("there is no part to show; give at least one")
    check_target(target, "montages", (".mp4",), [shot.path for shot in shots])
    scans = {shot.path: pyav.scan(shot.path) for shot in shots}
    frames = [frames_between(scans[shot.path], shot.start_s, shot.end_s) for shot in shots]
    placed: list[Placed] = []
    end_s = 0.0
    for shot, inside in zip(shots, frames, strict=True):
        scan = scans[shot.path]
        first_s, last_s = bounds(scan, *inside)
        placed.append(Placed(MontageShot(shot.path, first_s, last_s, shot.title), end_s, scan.info.fps))
        end_s += last_s - first_s
    has_sound = music is not None or any(scan.info.has_audio for scan in scans.values())
    size = _size(scans[shots[0].path])

    def pictures() -> Iterator[tuple[torch.Tensor, float]]:
        for one, inside in zip(placed, frames, strict=True):
            for picture, time_s in _pictures(one, scans[one.shot.path].times_s[slice(*inside)], size):
                if progress is not None:
                    progress(time_s, end_s)
                yield picture, time_s

    fps = max(one.fps for one in placed)
    with (
        whole_file(target) as unfinished,
        VideoWriter(unfinished, fps, sound=has_sound, quality=QUALITY) as writer,
    ):
        writer.write(pictures(), _sound(placed, scans, end_s, music) if has_sound else (), end_s)
    return placed


def _size(scan: pyav.Scan) -> tuple[int, int]:
    """Returns the width and height of the montage, even numbers."""
    width, height = scan.info.width, scan.info.height
    scale = min(1.0, MOST_PIXELS[0] / width, MOST_PIXELS[1] / height)
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


def _pictures(one: Placed, times_s: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[torch.Tensor, float]]:
    """Yields the pictures (3,H,W) of a shot and their times in the montage."""
    shot = one.shot
    for frames in iter_frames(shot.path, SamplingConfig(times_s=tuple(times_s.tolist())), chunk=CHUNK):
        for pixels, time_s in zip(frames.pixels, frames.times_s.tolist(), strict=True):
            image = ImageOps.pad(Image.fromarray(pixels.permute(1, 2, 0).numpy()), size, color=(0, 0, 0))
            if time_s - shot.start_s < TITLE_S:
                _draw_title(image, shot.title)
            yield torch.from_numpy(np.array(image)).permute(2, 0, 1), one.at_s + time_s - shot.start_s


def _draw_title(image: Image.Image, title: str) -> None:
    height = max(10, round(TITLE_SHARE * image.height))
    ImageDraw.Draw(image).text(
        (height, image.height - 2 * height),
        title,
        fill=(255, 255, 255),
        stroke_fill=(0, 0, 0),
        stroke_width=max(1, height // 10),
        font=ImageFont.load_default(height),
    )


def _sound(
    placed: Sequence[Placed], scans: dict[str, pyav.Scan], end_s: float, music: str | os.PathLike[str] | None
) -> Iterator[AudioPiece]:
    """Yields the sound of the whole montage, piece by piece."""
    mixed = torch.zeros(round(end_s * SOUND_RATE), 2)
    for one in placed:
        shot = one.shot
        try:
            for piece in sound_of(scans[shot.path], shot.start_s, shot.end_s):
                _add(mixed, piece.samples, round((one.at_s + piece.start_s) * SOUND_RATE))
        except VideoError as error:
            logger.warning("%s; its part is silent", error)
    if music is not None:
        _add(mixed, _music(music, len(mixed)), 0)
    for first in range(0, len(mixed), SOUND_PIECE):
        yield AudioPiece(first / SOUND_RATE, mixed[first : first + SOUND_PIECE].clamp(-1, 1), SOUND_RATE)


def _music(path: str | os.PathLike[str], length: int) -> torch.Tensor:
    """Returns the first `length` samples (length,2) of music, repeated if it is shorter and faded out."""
    found: list[torch.Tensor] = []
    missing = length
    for piece in iter_audio(path, rate=SOUND_RATE, stereo=True):
        found.append(piece.samples[:missing])
        missing -= len(found[-1])
        if not missing:
            break
    if missing == length:
        raise VideoFormatError(path, "its sound cannot be decoded")
    music = torch.cat(found)
    music = music.repeat(-(-length // len(music)), 1)[:length]
    faded = min(length, round(FADE_S * SOUND_RATE))
    gain = torch.full((length, 1), MUSIC_GAIN)
    gain[length - faded :] *= torch.linspace(1, 0, faded)[:, None]
    return music * gain


def _add(mixed: torch.Tensor, samples: torch.Tensor, at: int) -> None:
    """Adds samples to a mix from sample `at` on; what lies beyond its end is left out."""
    part = mixed[at : at + len(samples)]
    part += samples[: len(part)]
