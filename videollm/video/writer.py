"""Writing MP4 files: pictures that are shown at any times, and sound that keeps its place."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from videollm.video.audio import AudioPiece

TICKS = 90_000  # a second, as in MPEG streams
SOUND_RATE = 48_000


class VideoWriter:
    """Writes H.264 pictures and, with `sound`, stereo AAC sound. Use it as a context manager.

    target: the file. fps: mean rate of the pictures, which players show and which sets the encoder's quality. quality:
    constant rate factor of x264, from 0 (lossless) to 51. comment: what the file's metadata says of it.
    """

    def __init__(self, target: Path, fps: float, *, sound: bool = False, quality: int = 23, comment: str = ""):
        self._output = av.open(str(target), "w", options={"movflags": "+faststart"})
        if comment:
            self._output.metadata["comment"] = comment
        self._pictures: VideoStream = self._output.add_stream(
            "libx264", rate=max(1, round(fps)), options={"crf": str(quality)}
        )
        self._pictures.codec_context.time_base = Fraction(1, TICKS)
        self._sound: AudioStream | None = self._output.add_stream("aac", rate=SOUND_RATE) if sound else None
        if self._sound is not None:
            self._sound.layout = "stereo"
        self._heard = 0  # samples written so far
        self._waiting: av.VideoFrame | None = None  # the last picture, which is shown until the next one's time
        self._shown: dict[int, int] = {}  # pts -> duration of the pictures that are being encoded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.close()

    def add_picture(self, pixels: torch.Tensor, time_s: float) -> None:
        """Show pixels, uint8 (3,H,W), from time_s on. All pictures have the size of the first, and increasing times.

        H.264 stores colour for blocks of 2x2 pixels, so an odd last row or column is left out.
        """
        height, width = (n // 2 * 2 for n in pixels.shape[-2:])
        if not self._pictures.codec_context.is_open:
            self._pictures.width, self._pictures.height, self._pictures.pix_fmt = width, height, "yuv420p"
        picture = pixels[:, :height, :width].permute(1, 2, 0).numpy()
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame.pts, frame.time_base = round(time_s * TICKS), Fraction(1, TICKS)
        self._encode_waiting(frame.pts)
        self._waiting = frame

    def add_sound(self, piece: AudioPiece) -> None:
        """Play a stereo piece at SOUND_RATE at its time. Silence fills gaps, and what was played before is left out."""
        assert self._sound is not None
        start = round(piece.start_s * SOUND_RATE)
        silence = max(0, start - self._heard)
        samples = torch.cat([torch.zeros(silence, 2), piece.samples[max(0, self._heard - start) :]])
        if not len(samples):
            return
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1).numpy(), format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, self._heard, Fraction(1, SOUND_RATE)
        self._heard += len(samples)
        self._output.mux(self._sound.encode(frame))

    def write(self, pictures: Iterable[tuple[torch.Tensor, float]], sound: Iterable[AudioPiece], end_s: float) -> None:
        """Writes all pictures with their times, and all sound, and finishes at end_s.

        Sound goes beside the pictures that it belongs to, so that players need not jump in the file.
        """
        pieces = iter(sound)
        piece = next(pieces, None)
        for pixels, time_s in pictures:
            while piece is not None and piece.start_s <= time_s:
                self.add_sound(piece)
                piece = next(pieces, None)
            self.add_picture(pixels, time_s)
        while piece is not None:
            self.add_sound(piece)
            piece = next(pieces, None)
        self.finish(end_s)

    def finish(self, end_s: float) -> None:
        """Show the last picture until end_s and write what the encoders still hold."""
        self._encode_waiting(round(end_s * TICKS))
        self._encode(None)
        if self._sound is not None:
            self._output.mux(self._sound.encode())

    def _encode_waiting(self, until: int) -> None:
        if self._waiting is not None:
            assert self._waiting.pts is not None  # add_picture gave it one
            self._shown[self._waiting.pts] = until - self._waiting.pts
            self._encode(self._waiting)
            self._waiting = None

    def _encode(self, picture: av.VideoFrame | None) -> None:
        for packet in self._pictures.encode(picture):
            assert packet.pts is not None  # that of its picture
            # x264 guesses durations from the mean rate, which would cut the last picture short.
            packet.duration = self._shown.pop(packet.pts)
            self._output.mux(packet)
