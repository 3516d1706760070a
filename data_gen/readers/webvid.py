"""WebVid (Bain et al. 2021): `results_10M_train.csv` and its like; PAGE_DIR/VIDEOID.mp4 or VIDEOID.mp4."""

import re
from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


class WebVidReader:
    name = "webvid"

    def matches(self, source: Source) -> bool:
        return source.fields >= {"videoid", "contenturl", "name"}

    def read(self, source: Source) -> Iterator[Clip]:
        for where, row in source.rows():
            with source.report.row(where):
                name = row["videoid"]
                inside = source.video(f"{row.get('page_dir', '')}/{name}".lstrip("/"))
                yield Clip(
                    id=name,
                    video=inside if inside.exists() else source.video(name),
                    source=self.name,
                    duration=_seconds(row.get("duration", "")),
                    notes=(Note(kind="short", text=row["name"]),),
                )


def _seconds(iso: str) -> float | None:
    """PT00H00M14S -> 14; None for an empty field or no length."""
    match = _DURATION.fullmatch(iso)
    if not match and iso:
        raise ValueError(f"duration {iso!r} is not like PT00H00M14S")
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds or None
