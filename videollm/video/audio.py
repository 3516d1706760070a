"""Reading of sound from media files, as samples with their true times, piece by piece.

Times count from the first video frame, as everywhere in this project. In a file without video, they count from the
first audio packet. A stream that starts later, has gaps or outlasts the video therefore keeps its times.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from videollm.errors import NoAudioStreamError, VideoFormatError
from videollm.video.container import TOLERANCE_S, open_media, packets, pictures, video_errors
from videollm.video.joined import JoinedPart, PartClock
from videollm.video.pyav import parts_of

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class AudioPiece:
    """A piece of contiguous sound of S samples.

    Attributes:
        start_s: The time of the first sample in seconds.
        samples: float32 (S,), mono, or (S,2), stereo, in [-1, 1].
        rate: The number of samples per second.
    """

    start_s: float
    samples: torch.Tensor
    rate: int = SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """The time of the end in seconds."""
        return self.start_s + len(self.samples) / self.rate


def iter_audio(
    path: str | os.PathLike[str], track: int = 0, *, rate: int = SAMPLE_RATE, stereo: bool = False
) -> Iterator[AudioPiece]:
    """Yields pieces of contiguous sound of an audio stream, in order of time and without overlaps.

    Damaged packets leave a gap.

    Args:
        path: The media file.
        track: The number of the audio stream, counted from 0 in the order of the container.
        rate: The samples per second that the sound is converted to.
        stereo: Whether the sound is converted to two channels instead of one.

    Raises:
        VideoNotFoundError: If the file does not exist or cannot be opened.
        VideoFormatError: If the file is not a media file, or its sound cannot be read.
        NoAudioStreamError: If the file does not have this audio stream.
    """
    with video_errors(path), open_media(path) as container:
        streams = container.streams.audio
        if track >= len(streams):
            last = f"it has no audio track {track}; the last one is {len(streams) - 1}, counted from 0"
            raise NoAudioStreamError(path, last if streams else "it has no sound")
        stream = streams[track]
        if stream.codec_context is None:
            raise VideoFormatError(path, "there is no decoder for its sound")
        video = pictures(container, path)
        yield from _pieces(container, stream, _origin_s(video or stream), parts_of(path, video), rate, stereo)


def joined(pieces: Iterable[AudioPiece], most: int) -> Iterator[AudioPiece]:
    """Pieces that follow one another without a gap, joined to pieces of at most `most` samples."""
    held: list[AudioPiece] = []
    size = 0
    for piece in (part for whole in pieces for part in _split(whole, most)):
        if held and (piece.start_s > held[-1].end_s + 1 / piece.rate or size + len(piece.samples) > most):
            yield _one(held)
            held, size = [], 0
        held.append(piece)
        size += len(piece.samples)
    if held:
        yield _one(held)


def _one(pieces: list[AudioPiece]) -> AudioPiece:
    return AudioPiece(pieces[0].start_s, torch.cat([piece.samples for piece in pieces]), pieces[0].rate)


def _split(piece: AudioPiece, most: int) -> Iterator[AudioPiece]:
    for at in range(0, len(piece.samples), most):
        yield AudioPiece(piece.start_s + at / piece.rate, piece.samples[at : at + most], piece.rate)


def _origin_s(stream: Stream) -> float:
    """Returns the start of a stream on the container's clock."""
    return float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0


def _pieces(
    container: InputContainer,
    stream: AudioStream,
    origin_s: float,
    parts: Sequence[JoinedPart],
    rate: int,
    stereo: bool,
) -> Iterator[AudioPiece]:
    def new_resampler() -> AudioResampler:
        return AudioResampler(format="flt", layout="stereo" if stereo else "mono", rate=rate)

    resampler, run_s, heard = new_resampler(), None, 0  # heard: samples of the run so far, at `rate`
    read = 0.0  # seconds of the run that went into the resampler, which holds some of them back
    for frame, shift_s in _frames(container, stream, parts):
        time_s = run_s if frame.time is None else frame.time - origin_s + shift_s
        time_s = 0.0 if time_s is None else time_s
        expected_s = time_s if run_s is None else run_s + read
        length_s = frame.samples / frame.sample_rate
        if run_s is None or time_s > expected_s + TOLERANCE_S:
            if run_s is not None:
                yield from _drain(resampler, None, run_s, heard)
            resampler, run_s, heard, read = new_resampler(), time_s, 0, 0.0
        elif time_s + length_s < expected_s + TOLERANCE_S and time_s < expected_s - TOLERANCE_S:
            continue  # all of this frame was already read
        frame.pts = None  # times are tracked here, because the resampler would fill gaps by its own rule
        for piece in _drain(resampler, frame, run_s, heard):
            heard += len(piece.samples)
            yield piece
        read += length_s
    if run_s is not None:
        yield from _drain(resampler, None, run_s, heard)


def _drain(resampler: AudioResampler, frame: AudioFrame | None, run_s: float, heard: int) -> Iterator[AudioPiece]:
    for out in resampler.resample(frame):
        # A file of floating point samples may hold any value, infinity and not-a-number among them.
        samples = torch.from_numpy(out.to_ndarray()[0].copy()).nan_to_num_().clamp_(-1, 1)
        if out.layout.nb_channels > 1:
            samples = samples.view(-1, out.layout.nb_channels)  # packed: the channels of a sample lie side by side
        yield AudioPiece(run_s + heard / out.sample_rate, samples, out.sample_rate)
        heard += len(samples)


def _frames(
    container: InputContainer, stream: AudioStream, parts: Sequence[JoinedPart]
) -> Iterator[tuple[AudioFrame, float]]:
    """Yields the frames, and the seconds that are added to their times because the file was joined from parts."""
    clock, shift_s = PartClock(parts), 0.0
    for packet in packets(container, stream):
        if packet.pts is not None and packet.time_base is not None:
            shift_s = clock.shift_s(packet.pos, float(packet.pts * packet.time_base))
        try:
            frames = packet.decode()
        except FFmpegError:  # a damaged packet; the next one may be whole
            continue
        yield from ((frame, shift_s) for frame in frames)
    try:
        rest = stream.codec_context.decode(None)  # what the decoder has kept back
    except FFmpegError:
        return
    yield from ((frame, shift_s) for frame in rest)
