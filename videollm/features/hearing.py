"""The features of the audio of a video file."""

import bisect
import math
from collections.abc import Iterable
from itertools import accumulate

import torch

from videollm.encoders.audio import AudioEncoder, AudioFeatures
from videollm.senses.windows import thinned
from videollm.video.audio import AudioPiece


def hear(
    pieces: Iterable[AudioPiece],
    duration_s: float,
    encoder: AudioEncoder,
    start_s: float | None = None,
    end_s: float | None = None,
) -> AudioFeatures | None:
    """Returns the features of a file's audio, or None if nothing can be heard.

    Of more than half an hour, evenly spread half minutes are heard, so that memory is bounded.

    Args:
        pieces: The audio in order of time, 16,000 samples a second.
        duration_s: The length of the file in seconds.
        encoder: The encoder.
        start_s, end_s: The part that is heard, in seconds. None takes all up to that end.
    """
    first_s, last_s = -math.inf if start_s is None else start_s, math.inf if end_s is None else end_s
    heard = [part for piece in thinned(pieces, duration_s) if len((part := _between(piece, first_s, last_s)).samples)]
    if not heard:
        return None
    found = encoder.encode_audio(torch.cat([piece.samples for piece in heard]))
    if found is None:
        return None
    ends_s = list(accumulate(len(piece.samples) / piece.rate for piece in heard))
    times_s = []
    for clip_s in found.times_s.tolist():
        piece = min(bisect.bisect_right(ends_s, clip_s), len(heard) - 1)
        times_s.append(heard[piece].end_s - (ends_s[piece] - clip_s))
    return AudioFeatures(found.tokens, torch.tensor(times_s, dtype=torch.float64))


def _between(piece: AudioPiece, start_s: float, end_s: float) -> AudioPiece:
    """Returns the part of a piece from start_s up to end_s, which may be empty."""
    first = max(0, math.ceil((start_s - piece.start_s) * piece.rate)) if math.isfinite(start_s) else 0
    last = max(0, math.ceil((end_s - piece.start_s) * piece.rate)) if math.isfinite(end_s) else len(piece.samples)
    return AudioPiece(piece.start_s + first / piece.rate, piece.samples[first:last], piece.rate)
