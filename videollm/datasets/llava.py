"""The conversation format of LLaVA (Liu et al. 2023) with videos, as Video-ChatGPT, Video-LLaVA and LLaVA-Video use it.

A JSON list of objects with id, video and conversations, whose turns are from human and gpt.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip
from videollm.datasets.schema import Message

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
FEATURES = (".pkl", ".npy", ".pt", ".safetensors")  # some files name features made from a video of the same name
_PLACEHOLDER = re.compile(r"\s*<(?:video|image)>\s*")


class LlavaConversations(ClipReader):
    name = "llava"

    def recognises(self, file: AnnotationFile) -> bool:
        return isinstance(file.json, list) and "conversations" in file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for number, (where, row) in enumerate(file.entries(file.json), 1):
            with file.broken.row(where):
                name = PurePosixPath(row["video"])
                turns = [
                    Message(ROLES[turn["from"]], _PLACEHOLDER.sub("\n", turn["value"]).strip())
                    for turn in row["conversations"]
                ]
                yield Clip(
                    id=f"{row.get('id', name.stem)}-{number}",  # ids repeat in some published files
                    video=file.video(str(name.with_suffix("") if name.suffix in FEATURES else name)),
                    source=self.name,
                    dialogues=(tuple(turns),),
                )
