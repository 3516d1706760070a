"""How far a piece of work is, told from any thread while it goes on."""

from collections.abc import Callable, Iterator, Sequence

from videollm.video.frames import Frames

OnProgress = Callable[[str, float], None]  # the step, and the share of it that is done


def silent(step: str, share: float) -> None:
    """Tells nobody."""


def told(pieces: Sequence[Frames], step: str, progress: OnProgress) -> Iterator[Frames]:
    """Yields the pieces, and tells how many of their frames have been taken."""
    total, done = sum(map(len, pieces)), 0
    for piece in pieces:
        progress(step, done / total)
        yield piece
        done += len(piece)
    progress(step, 1)
