"""Small pictures of a video's frames, decoded where everything is decoded: apart from the server, within its limits."""

import base64
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

from PIL import Image

from serve.runtime.decoding import Decoders
from videollm.config import SamplingConfig

SHORT_SIDE, QUALITY = 108, 72  # pixels; of JPEG
KEPT = 2048  # pictures, of about 5 kB


class Pictures:
    def __init__(self, decoders: Decoders):
        self._decoders = decoders
        self._kept: OrderedDict[tuple[str, float], str] = OrderedDict()

    async def at(self, path: Path, sha: str, times_s: list[float]) -> list[str]:
        """The frames shown at these times, as data: URLs. sha: of the file's content. Raises APIError 400."""
        missing = sorted({t for t in times_s if (sha, t) not in self._kept})
        found = {t: self._kept[sha, t] for t in times_s if t not in missing}
        if missing:
            sampling = SamplingConfig(times_s=tuple(missing))
            async with self._decoders.decode(path, sampling, SHORT_SIDE) as decoded:
                shown = [(t, p) for piece in decoded.pieces for t, p in zip(piece.times_s, piece.pixels, strict=True)]
            for time_s in missing:
                # Frames that are lost are not there; the one before stands in.
                _, pixels = min(shown, key=lambda frame: abs(float(frame[0]) - time_s))
                found[time_s] = self._kept[sha, time_s] = _jpeg(pixels.permute(1, 2, 0).numpy())
        for time_s in times_s:
            if (sha, time_s) in self._kept:
                self._kept.move_to_end((sha, time_s))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return [found[t] for t in times_s]


def _jpeg(pixels) -> str:
    data = BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
