"""Parts of a video as files of their own: clips with sound (.mp4), and short animations (.gif, .webp)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from av.stream import Stream
from PIL import Image

from videollm.config import SamplingConfig
from videollm.errors import VideoRangeError
from videollm.video import pyav
from videollm.video.audio import AudioPiece, iter_audio
from videollm.video.container import COPIED_PICTURES, COPIED_SOUND, open_media, pictures
from videollm.video.decoding import iter_frames
from videollm.video.target import check_target, whole_file
from videollm.video.writer import SOUND_RATE, VideoWriter

QUALITY = 18  # constant rate factor of x264 at which its loss is hardly seen
TOLERANCE_S = 1e-6  # below every container's clock tick; absorbs the rounding of times
CHUNK = 8  # decoded pictures in memory at a time, at their full size
ANIMATION_FPS, ANIMATION_SIDE = 10.0, 240  # animations hold whole pictures, and would be large otherwise


@dataclass(frozen=True, slots=True)
class CutPart:
    """What a file shows of a video: from its first frame's time to the end of its last frame, in seconds of the video.
    copied: whether its pictures were taken over as they were stored, without loss."""

    start_s: float
    end_s: float
    copied: bool


def cut(video: str | os.PathLike[str], start_s: float, end_s: float, target: Path) -> CutPart:
    """Write the frames that are shown from start_s up to end_s to `target`.

    A clip (.mp4) holds exactly these frames and their sound. They are copied where the part starts at a key frame and
    nothing in it refers to frames outside, and encoded again as H.264 otherwise. An animation (.gif, .webp) has no
    sound, at most 10 frames a second, and 240 pixels on the shorter side.

    Raises:
        ConfigError: If target has another suffix, lies in no folder, or is the video itself.
        VideoRangeError: If no frame starts in the part.
        VideoError: If the video cannot be read.
    """
    kinds = {".mp4": _write_clip, ".gif": _write_animation, ".webp": _write_animation}
    check_target(target, "parts of a video", tuple(kinds), (video,))
    scan = pyav.scan(video)
    part = frames_between(scan, start_s, end_s)
    with whole_file(target) as unfinished:
        return kinds[target.suffix.lower()](scan, *part, unfinished)


def frames_between(scan: pyav.Scan, start_s: float, end_s: float) -> tuple[int, int]:
    """Returns the number of the first frame that starts in [start_s, end_s), and the number after that of the last.

    Raises VideoRangeError if no frame starts there.
    """
    times_s = scan.times_s + TOLERANCE_S
    inside = np.flatnonzero((times_s >= start_s) & (times_s < end_s))
    if not len(inside):
        reason = f"no frame starts between {start_s:.3f} and {end_s:.3f} s; it lasts {scan.info.duration_s:.3f} s"
        raise VideoRangeError(scan.info.path, reason)
    return int(inside[0]), int(inside[-1]) + 1


def _write_clip(scan: pyav.Scan, first: int, after: int, target: Path) -> CutPart:
    start_s, end_s = bounds(scan, first, after)
    copied = _is_closed(scan, first, after) and _sound_can_be_copied(scan)
    (_copy if copied else _encode)(scan, first, after, target)
    return CutPart(start_s, end_s, copied)


def bounds(scan: pyav.Scan, first: int, after: int) -> tuple[float, float]:
    """Returns when frame `first` starts and when the frame before `after` ends, in seconds."""
    end_s = scan.times_s[after] if after < len(scan.times_s) else scan.info.duration_s
    return float(scan.times_s[first]), float(end_s)


def _is_closed(scan: pyav.Scan, first: int, after: int) -> bool:
    """Whether the frames can be copied: their packets follow one another, from a key frame to the next or to the end,
    hold no picture that is shown outside the part, and have the timestamps of the file."""
    ends = after == len(scan.packet)
    if (
        len(scan.parts) > 1
        or scan.info.codec not in COPIED_PICTURES
        or not scan.is_key[first]
        or not (ends or scan.is_key[after])
    ):
        return False
    packets = np.arange(scan.packet[first], len(scan.pts) if ends else scan.packet[after])
    return not scan.is_damaged[packets].any() and np.array_equal(np.sort(scan.packet[first:after]), packets)


def _sound_can_be_copied(scan: pyav.Scan) -> bool:
    with open_media(scan.info.path) as source:
        sound = source.streams.best("audio")
        return sound is None or sound.codec_context.name in COPIED_SOUND


def _copy(scan: pyav.Scan, first: int, after: int, target: Path) -> None:
    start_s, end_s = bounds(scan, first, after)
    with (
        open_media(scan.info.path) as source,
        av.open(str(target), "w", options={"movflags": "+faststart"}) as output,
    ):
        video, sound = pictures(source, scan.info.path), source.streams.best("audio")
        assert video is not None and video.time_base is not None  # it was scanned
        copies: dict[int, Stream] = {video.index: output.add_stream_from_template(video)}
        if sound is not None:
            copies[sound.index] = output.add_stream_from_template(sound)
        zero_s = float(scan.pts[scan.packet[0]] * video.time_base)
        for packet in source.demux([source.streams[index] for index in copies]):
            if packet.pts is None or packet.time_base is None:
                continue
            time_s = float(packet.pts * packet.time_base) - zero_s
            if start_s <= time_s + TOLERANCE_S < end_s:
                shift = round((zero_s + start_s) / packet.time_base)
                packet.pts -= shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = copies[packet.stream_index]
                output.mux(packet)


def _encode(scan: pyav.Scan, first: int, after: int, target: Path) -> None:
    start_s, end_s = bounds(scan, first, after)
    sampling = SamplingConfig(times_s=tuple(scan.times_s[first:after].tolist()))
    pictures = (
        (pixels, time_s - start_s)
        for frames in iter_frames(scan.info.path, sampling, chunk=CHUNK)
        for pixels, time_s in zip(frames.pixels, frames.times_s.tolist(), strict=True)
    )
    with VideoWriter(target, scan.info.fps, sound=scan.info.has_audio, quality=QUALITY) as writer:
        writer.write(pictures, sound_of(scan, start_s, end_s), end_s - start_s)


def sound_of(scan: pyav.Scan, start_s: float, end_s: float) -> Iterator[AudioPiece]:
    """Yields the sound of a video from start_s to end_s at SOUND_RATE in stereo, with times from start_s."""
    if not scan.info.has_audio:
        return
    for piece in iter_audio(scan.info.path, rate=SOUND_RATE, stereo=True):
        if piece.start_s >= end_s:
            return
        skipped = max(0, round((start_s - piece.start_s) * SOUND_RATE))
        kept = piece.samples[skipped : max(0, round((end_s - piece.start_s) * SOUND_RATE))]
        if len(kept):
            yield replace(piece, start_s=piece.start_s + skipped / SOUND_RATE - start_s, samples=kept)


def _write_animation(scan: pyav.Scan, first: int, after: int, target: Path) -> CutPart:
    start_s, end_s = bounds(scan, first, after)
    rate = min(ANIMATION_FPS, scan.info.fps or ANIMATION_FPS)
    short_side = min(ANIMATION_SIDE, scan.info.width, scan.info.height)
    images, times = [], []
    for frames in iter_frames(
        scan.info.path, SamplingConfig(fps=rate, start_s=start_s, end_s=end_s), short_side=short_side
    ):
        images += [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in frames.pixels]
        times += frames.times_s.tolist()
    if target.suffix.lower() == ".gif":  # the method that Pillow chooses by itself is fifty times slower
        images = [image.quantize(method=Image.Quantize.FASTOCTREE) for image in images]
    shown_ms = np.diff(np.round(1000 * np.array([*times, end_s]))).astype(int).tolist()
    images[0].save(target, save_all=True, append_images=images[1:], duration=shown_ms, loop=0)
    return CutPart(times[0], end_s, copied=False)
