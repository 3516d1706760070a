"""Sound of a media file as samples with their true times, read piece by piece.

Times count from the first video frame, as everywhere in this project; in a file without video they count from the
first audio packet. A stream that starts later, has gaps, or outlasts the video therefore keeps its place.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import av
import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from videollm.errors import NoAudioStreamError, VideoFormatError, VideoNotFoundError

SAMPLE_RATE = 16_000
# Timestamps are rounded to the container's ticks, which are as coarse as 1/90 s in practice. A smaller step between two
# frames is rounding, a larger one is a gap or an overlap.
TOLERANCE_S = 0.05


@dataclass(frozen=True, slots=True)
class AudioPiece:
    """samples: float32 (S,), mono, or (S,2), stereo, in [-1, 1]. start_s: when the first of them is heard. rate: how
    many are heard in a second."""

    start_s: float
    samples: torch.Tensor
    rate: int = SAMPLE_RATE

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.samples) / self.rate


def iter_audio(
    path: str | os.PathLike[str], track: int = 0, *, rate: int = SAMPLE_RATE, stereo: bool = False
) -> Iterator[AudioPiece]:
    """Decode an audio stream to pieces of contiguous sound, in order of time and without overlaps.

    track: which of the file's audio streams to read, in the container's order. rate, stereo: what its sound is
    converted to. Damaged packets are passed over and leave a gap. Raises VideoNotFoundError, VideoFormatError, and
    NoAudioStreamError where the file has no such stream.
    """
    try:
        # By file descriptor, as frames are read: a playlist then cannot open other files.
        with open(path, "rb") as file:
            try:
                container = av.open("fd:", container_options={"fd": str(file.fileno())}, metadata_errors="replace")
            except FFmpegError as error:
                raise VideoFormatError(
                    path, f"not a media file, or its header is damaged ({error.strerror})"
                ) from error
            with container:
                streams = container.streams.audio
                if track >= len(streams):
                    raise NoAudioStreamError(
                        path, f"it holds {len(streams)} audio streams; track {track} was asked for"
                    )
                stream = streams[track]
                if stream.codec_context is None:
                    raise VideoFormatError(path, "there is no decoder for its sound")
                yield from _pieces(container, stream, _origin_s(container, stream), rate, stereo)
    except FFmpegError as error:
        raise VideoFormatError(path, f"its sound cannot be read ({error.strerror})") from error
    except OSError as error:
        raise VideoNotFoundError(path, (error.strerror or str(error)).lower()) from error


def _origin_s(container: InputContainer, stream: AudioStream) -> float:
    """The time of the first video frame, or of the first sound where there is no video, on the container's clock."""
    pictures = container.streams.best("video")
    is_cover = pictures is not None and bool(pictures.disposition & Disposition.attached_pic)
    first = stream if pictures is None or is_cover else pictures
    return float((first.start_time or 0) * first.time_base) if first.time_base else 0.0


def _pieces(
    container: InputContainer, stream: AudioStream, origin_s: float, rate: int, stereo: bool
) -> Iterator[AudioPiece]:
    def new_resampler() -> AudioResampler:
        return AudioResampler(format="flt", layout="stereo" if stereo else "mono", rate=rate)

    resampler, run_s, heard = new_resampler(), None, 0  # heard: samples of the run so far, at `rate`
    read = 0.0  # seconds of the run that went into the resampler, which holds some of them back
    for frame in _frames(container, stream):
        time_s = run_s if frame.time is None else frame.time - origin_s
        time_s = 0.0 if time_s is None else time_s
        expected_s = time_s if run_s is None else run_s + read
        length_s = frame.samples / frame.sample_rate
        if run_s is None or time_s > expected_s + TOLERANCE_S:
            if run_s is not None:
                yield from _drain(resampler, None, run_s, heard)
            resampler, run_s, heard, read = new_resampler(), time_s, 0, 0.0
        elif time_s + length_s < expected_s + TOLERANCE_S and time_s < expected_s - TOLERANCE_S:
            continue  # all of it lies in what has been heard already: joined streams jump back
        frame.pts = None  # times are kept here; the resampler would fill gaps of its own
        for piece in _drain(resampler, frame, run_s, heard):
            heard += len(piece.samples)
            yield piece
        read += length_s
    if run_s is not None:
        yield from _drain(resampler, None, run_s, heard)


def _drain(resampler: AudioResampler, frame: AudioFrame | None, run_s: float, heard: int) -> Iterator[AudioPiece]:
    for out in resampler.resample(frame):
        samples = torch.from_numpy(out.to_ndarray()[0].copy())
        if out.layout.nb_channels > 1:
            samples = samples.view(-1, out.layout.nb_channels)  # packed: the channels of a sample lie side by side
        yield AudioPiece(run_s + heard / out.sample_rate, samples, out.sample_rate)
        heard += len(samples)


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:  # the file is cut off or damaged from here on
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError:  # a damaged packet; the next one may be whole
            continue
