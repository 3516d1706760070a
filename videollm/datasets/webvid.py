"""WebVid (Bain et al. 2021): `results_10M_train.csv` and its like; videos PAGE_DIR/VIDEOID.mp4 or VIDEOID.mp4."""

import re
from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")  # ISO 8601


class WebVid(ClipReader):
    name = "webvid"

    def recognises(self, file: AnnotationFile) -> bool:
        return file.fields >= {"videoid", "contenturl", "name"}

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, row in file.rows():
            with file.broken.row(where):
                name = row["videoid"]
                yield Clip(
                    id=name,
                    video=file.video(f"{row.get('page_dir', '')}/{name}".lstrip("/"), name),
                    source=self.name,
                    duration=_seconds(row.get("duration", "")),
                    notes=(Note(kind="short", text=row["name"]),),
                )


def _seconds(iso: str) -> float | None:
    """PT00H00M14S becomes 14; an empty field and a length of zero become None."""
    match = _DURATION.fullmatch(iso)
    if not match and iso:
        raise ValueError(f"duration {iso!r} is not like PT00H00M14S")
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds or None
