"""Kinetics (Kay et al. 2017): `train.csv` and its like.

Clips are files YOUTUBEID_START_END.mp4, with six digits for each time, in one folder or in one folder for each label.
"""

from collections.abc import Iterator

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note


class Kinetics(ClipReader):
    name = "kinetics"

    def recognises(self, file: AnnotationFile) -> bool:
        return file.fields >= {"label", "youtube_id", "time_start", "time_end"}

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, row in file.rows():
            with file.broken.row(where):
                label = row["label"]
                name = f"{row['youtube_id']}_{int(row['time_start']):06}_{int(row['time_end']):06}"
                video = file.video(f"{label}/{name}", name)
                yield Clip(
                    id=name, video=video, source=self.name, notes=(Note(kind="label", text=label),), action=label
                )
