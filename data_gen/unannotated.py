"""Videos that nobody has annotated: a folder of them, a video, or a text file that lists folders and videos."""

import os.path
from collections.abc import Iterator
from pathlib import Path

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip
from videollm.retrieval.video_files import find_videos


class Unannotated(ClipReader):
    """A clip for each video file, whose id is its path below the folder of the videos."""

    name = "videos"

    def recognises(self, file: AnnotationFile) -> bool:
        return bool(find_videos([file.path]).files)

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        """Yields the clips in the order of their paths. Raises VideoNotFoundError if the source is none of these."""
        found = find_videos([file.path])
        for path, reason in found.problems:
            file.broken.add(path, reason)
        for path in sorted(found.files):
            id = Path(os.path.relpath(path, file.videos)).as_posix()
            yield Clip(id=id, video=Path(path), source=self.name)
