"""WebVid (Bain et al. 2021): `results_10M_train.csv` and its like; videos PAGE_DIR/VIDEOID.mp4 or VIDEOID.mp4."""

from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note


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
                    notes=(Note(kind="short", text=row["name"]),),
                )
