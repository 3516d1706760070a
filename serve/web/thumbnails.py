"""Small pictures of a video's frames, decoded in the sandbox like everything else, within its limits."""

from collections import OrderedDict
from pathlib import Path

from serve.runtime.decoding import SandboxedDecoder
from serve.runtime.stream_pictures import jpeg_url
from videollm.config import SamplingConfig

OWNER = "thumbnails"  # all sessions together have one key's share of the decoders for them
SHORT_SIDE = 108  # pixels
MAX_KEPT = 2048  # pictures, of about 5 kB each


class Thumbnails:
    """Makes thumbnails, and keeps the most recently used ones."""

    def __init__(self, decoder: SandboxedDecoder):
        self._decoder = decoder
        self._kept: OrderedDict[tuple[str, float], str] = OrderedDict()

    async def at(self, path: Path, sha: str, times_s: list[float]) -> list[str]:
        """Returns the frames shown at these times, as data: URLs. Raises APIError 400.

        Args:
            sha: Hash of the file's content, by which thumbnails are kept.
        """
        missing = sorted({t for t in times_s if (sha, t) not in self._kept})
        found = {t: self._kept[sha, t] for t in times_s if t not in missing}
        if missing:
            sampling = SamplingConfig(times_s=tuple(missing))
            async with self._decoder.decode(path, sampling, SHORT_SIDE, OWNER, sha) as decoded:
                frames = [(t, p) for piece in decoded.pieces for t, p in zip(piece.times_s, piece.pixels, strict=True)]
            for time_s in missing:
                # The nearest frame: where a frame cannot be decoded, its neighbour is shown.
                _, pixels = min(frames, key=lambda frame: abs(float(frame[0]) - time_s))
                found[time_s] = self._kept[sha, time_s] = jpeg_url(pixels.permute(1, 2, 0).numpy())
        for time_s in times_s:
            if (sha, time_s) in self._kept:
                self._kept.move_to_end((sha, time_s))
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return [found[t] for t in times_s]
