"""Sound in windows of a length, for networks that hear a few seconds at a time."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from videollm.video.audio import SAMPLE_RATE, AudioPiece

GAP_S = 1.0  # a longer gap in the sound ends a window; a shorter one is filled with silence
SILENCE_DB = -55.0  # a window whose loudest second is below this is silent
MAX_HEARD_S, KEPT_S = 1800.0, 30.0  # of longer sound, stretches of KEPT_S are heard


def thinned(pieces: Iterable[AudioPiece], duration_s: float) -> Iterator[AudioPiece]:
    """All of the sound, or evenly spread stretches of it where there is more than MAX_HEARD_S."""
    period_s = KEPT_S * max(1.0, duration_s / MAX_HEARD_S)
    return (piece for piece in pieces if piece.start_s % period_s < KEPT_S)


@dataclass
class SoundWindows:
    """At most `length_s` seconds of contiguous sound at a time. Memory holds one window and one piece."""

    pieces: Iterable[AudioPiece]
    length_s: float
    _start_s: float = 0.0
    _samples: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    _next: AudioPiece | None = None

    def __post_init__(self) -> None:
        self._pieces = iter(self.pieces)
        self._next = next(self._pieces, None)

    def current(self) -> AudioPiece | None:
        """The window at the present position, None at the end."""
        most = round(self.length_s * SAMPLE_RATE)
        waiting, held = [self._samples], len(self._samples)
        while self._next is not None and held < most:
            if not held:
                self._start_s = self._next.start_s
            gap = round((self._next.start_s - self._start_s) * SAMPLE_RATE) - held
            if held and gap > GAP_S * SAMPLE_RATE:
                break
            silence = torch.zeros(max(0, gap))
            waiting += [silence, self._next.samples]
            held += len(silence) + len(self._next.samples)
            self._next = next(self._pieces, None)
        self._samples = torch.cat(waiting)
        return AudioPiece(self._start_s, self._samples[:most]) if held else None

    @property
    def ends_after_current(self) -> bool:
        """Whether the sound stops, for good or for a gap, with the present window."""
        return len(self._samples) <= self.length_s * SAMPLE_RATE and (self._next is None or self._gap_follows)

    @property
    def _gap_follows(self) -> bool:
        end_s = self._start_s + len(self._samples) / SAMPLE_RATE
        return self._next is not None and self._next.start_s - end_s > GAP_S

    def advance(self, seconds: float) -> None:
        drop = round(seconds * SAMPLE_RATE)
        self._samples, self._start_s = self._samples[drop:], self._start_s + drop / SAMPLE_RATE


def level_db(samples: torch.Tensor) -> float:
    """The loudest second's root mean square, in decibels of full scale."""
    seconds = samples.split(SAMPLE_RATE)
    loudest = max(float(second.square().mean()) for second in seconds)
    return 10 * math.log10(loudest) if loudest > 0 else -math.inf
