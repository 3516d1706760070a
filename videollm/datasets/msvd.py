"""MSVD's clips: captions (Chen and Dolan 2011) for training, MSVD-QA (Xu et al. 2017) for evaluation.

Captions: `AllVideoDescriptions.txt`, or the original CSV with captions in many languages. Clips are already cut and
named VIDEOID_START_END.avi.

Questions with answers of one word, generated from the captions:

    DIR/test_qa.json, val_qa.json, train_qa.json
    DIR/youtube_mapping.txt, DIR/videos/NAME.avi     a line "NAME vid1234" for each video
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemReader
from videollm.datasets.msrvtt import MSVD_MAPPING, MsrVttQA
from videollm.datasets.text_file import split_lines

COLUMNS = {"videoid", "start", "end", "language", "description"}
LANGUAGES = {
    "Chinese": "zh",
    "Dutch": "nl",
    "English": "en",
    "French": "fr",
    "German": "de",
    "Hindi": "hi",
    "Italian": "it",
    "Portuguese": "pt",
    "Russian": "ru",
    "Spanish": "es",
    "Turkish": "tr",
}
_LINE = re.compile(r"(\S{11}_\d+_\d+)\s+(.*\S)")  # YouTube ids have eleven characters


class Msvd(ClipReader):
    name = "msvd"

    def recognises(self, file: AnnotationFile) -> bool:
        if file.suffix == ".txt":
            return any(_LINE.fullmatch(line) for _, line in file.lines() if not line.startswith("#"))
        return file.fields >= COLUMNS

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        notes: defaultdict[str, list[Note]] = defaultdict(list)
        for where, name, text, language in self._captions(file):
            with file.broken.row(where):
                notes[name].append(Note(kind="short", text=text, language=language))
        for name, captions in notes.items():
            yield Clip(id=name, video=file.video(name), source=self.name, notes=tuple(captions))

    def _captions(self, file: AnnotationFile) -> Iterator[tuple[str, str, str, str]]:
        """The place, the video's name, the text and the language of each caption."""
        if file.suffix == ".txt":
            for where, line in file.lines():
                if match := _LINE.fullmatch(line.strip()):
                    yield where, match[1], match[2], "en"
                elif not line.startswith("#"):
                    file.broken.add(where, "the line is not VIDEO_START_END and a sentence")
            return
        for where, row in file.rows():
            with file.broken.row(where):
                if row["language"] not in LANGUAGES:
                    raise ValueError(f"language {row['language']!r} is not known")
                name = f"{row['videoid']}_{row['start']}_{row['end']}"
                yield where, name, row["description"], LANGUAGES[row["language"]]


class MsvdQA(MsrVttQA):
    name = "msvd-qa"
    rows: ClassVar = {"test": 13_157, "val": 6_415, "train": 30_933}

    def recognises_folder(self, root: Path) -> bool:
        return ItemReader.recognises_folder(self, root) and (root / MSVD_MAPPING).is_file()

    def video_names(self, folder: DatasetFolder) -> dict[int, str]:
        pairs = (line.split() for line in split_lines(folder.text(MSVD_MAPPING)) if line.strip())
        return {int(number.removeprefix("vid")): name for name, number in pairs}
