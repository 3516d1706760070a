"""What is said in a stream, written down while it lasts.

Whisper reads up to 30 seconds at once, for the same time however few they are. So sound is collected until somebody
pauses, and read in a thread of its own.

Shapes: S samples.
"""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from videollm.senses.finding import Finding
from videollm.senses.speech import SpeechSense
from videollm.senses.windows import GAP_S, SILENCE_DB, level_db
from videollm.video.audio import SAMPLE_RATE, AudioPiece

SENSE = "speech"
LEAST_S, MOST_S = 8.0, 24.0  # of a stretch, unless the sound is interrupted
PAUSE_S, PAUSE_DB = 0.5, -20.0  # a pause is so long, and quieter than the loudest second by so much
MOST_WAITING = 4  # stretches
LATE_S = (MOST_WAITING + 1) * MOST_S  # by which a sentence may be known later than the frames of its time


class SpeechStretches:
    """Joins the sound of a stream to stretches that end where nobody speaks. Silence before them is left out."""

    def __init__(self) -> None:
        self._held: list[AudioPiece] = []

    @property
    def start_s(self) -> float | None:
        """The time of the first sample that is held."""
        return self._held[0].start_s if self._held else None

    def add(self, piece: AudioPiece) -> Iterator[AudioPiece]:
        """Yields the stretches that are complete with a piece, which is later than all others."""
        if self._held and abs(piece.start_s - self._held[-1].end_s) > GAP_S:
            yield from self.end()
        if not self._held and level_db(piece.samples) < SILENCE_DB:
            return
        self._held.append(piece)
        start_s = self._held[0].start_s
        if piece.end_s - start_s < LEAST_S:
            return
        samples = torch.cat([held.samples for held in self._held])
        quiet_db = max(SILENCE_DB, level_db(samples) + PAUSE_DB)
        if level_db(samples[-round(PAUSE_S * SAMPLE_RATE) :]) < quiet_db:
            yield from self.end()
        elif piece.end_s - start_s >= MOST_S:
            at = _quietest(samples)
            self._held = [AudioPiece(start_s + at / SAMPLE_RATE, samples[at:])]
            yield AudioPiece(start_s, samples[:at])

    def end(self) -> Iterator[AudioPiece]:
        """Yields what is held."""
        held, self._held = self._held, []
        if held:
            yield AudioPiece(held[0].start_s, torch.cat([piece.samples for piece in held]))


def _quietest(samples: torch.Tensor) -> int:
    """Returns the middle of the quietest pause in the last third of the samples (S,)."""
    width, first = round(PAUSE_S * SAMPLE_RATE), 2 * len(samples) // 3
    energy = samples[first:].square().unfold(0, width, width // 4).sum(1)
    return first + int(energy.argmin()) * (width // 4) + width // 2


class LiveSpeech:
    """Transcribes the sound of a stream in a thread of its own, because frames cannot wait for the seconds that Whisper
    takes. All streams share the thread, since Whisper uses all cores.

    Args:
        sense: What transcribes.
        waits: Whether `hear` waits while `MOST_WAITING` stretches have not been read. If it does not, what has waited
            longest is left out then.

    Attributes:
        skipped_s: The seconds of sound that were left out.
    """

    _thread = ThreadPoolExecutor(1, thread_name_prefix="speech")

    def __init__(self, sense: SpeechSense, *, waits: bool):
        self._sense, self._waits = sense, waits
        self._stretches = SpeechStretches()
        self._work: deque[tuple[AudioPiece, Future[list[Finding]]]] = deque()
        self.skipped_s = 0.0
        self._heard_until = -math.inf

    @property
    def read_until(self) -> float:
        """The time in seconds since 1970 before which all that is said has been returned."""
        waits = self._work[0][0].start_s if self._work else self._stretches.start_s
        return self._heard_until if waits is None else waits

    def hear(self, piece: AudioPiece) -> None:
        """Takes sound with its time in seconds since 1970. Its samples are mono at `SAMPLE_RATE`."""
        self._heard_until = piece.end_s
        self._read(self._stretches.add(piece))

    def pause(self) -> None:
        """Has all sound so far read, because no more comes for a while."""
        self._read(self._stretches.end())

    def ready(self) -> list[Finding]:
        """Returns the sentences that were found since the last call, with times in seconds since 1970."""
        found: list[Finding] = []
        while self._work and self._work[0][1].done():
            found += self._work.popleft()[1].result()
        return found

    def finish(self) -> list[Finding]:
        """Returns the sentences of all sound, once it has been read."""
        self.pause()
        return [sentence for _, future in self._work for sentence in future.result()]

    def stop(self) -> None:
        """Reads no further sound."""
        for _, future in self._work:
            future.cancel()

    def _read(self, stretches: Iterator[AudioPiece]) -> None:
        for stretch in stretches:
            if self._waits and len(self._work) >= MOST_WAITING:
                self._work[-MOST_WAITING][1].result()
            if sum(not future.done() for _, future in self._work) >= MOST_WAITING:
                self._leave_one_out()
            self._work.append((stretch, self._thread.submit(self._transcribe, stretch)))

    def _leave_one_out(self) -> None:
        for at, (stretch, future) in enumerate(self._work):
            if future.cancel():  # which that one cannot be that is read now
                self.skipped_s += len(stretch.samples) / SAMPLE_RATE
                del self._work[at]
                return

    def _transcribe(self, stretch: AudioPiece) -> list[Finding]:
        return list(self._sense.transcribe([stretch]))
