"""The conversation format of LLaVA (Liu et al. 2023) with videos, as Video-ChatGPT, Video-LLaVA and LLaVA-Video use it.

A JSON list of objects with id, video and conversations, whose turns are from human and gpt. Published mixes also hold
rows with "image" instead of "video", and rows of text alone, which have neither.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

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
                name = _seen(row)
                turns = [
                    Message(ROLES[turn["from"]], _PLACEHOLDER.sub("\n", turn["value"]).strip())
                    for turn in row["conversations"]
                ]
                if not turns:
                    raise ValueError("the conversation has no turns")
                yield Clip(
                    id=f"{row.get('id', name.stem if name else 'text')}-{number}",  # ids repeat in some files
                    video=file.video(str(name)) if name else None,
                    source=self.name,
                    dialogues=(tuple(turns),),
                )


def _seen(row: dict[str, Any]) -> PurePosixPath | None:
    """Returns the name of the video or the picture of a row, or None if its conversation is about neither."""
    found = [row[kind] for kind in ("video", "image") if row.get(kind)]
    if len(found) > 1 or not all(isinstance(name, str) for name in found):
        raise ValueError(f"the row shows {', '.join(map(str, found))[:80]}; it may show one video or one picture")
    if not found:
        if any(_PLACEHOLDER.search(turn["value"]) for turn in row["conversations"]):
            raise ValueError("the conversation shows a video or a picture, but the row names none")
        return None
    name = PurePosixPath(found[0])
    return name.with_suffix("") if name.suffix in FEATURES else name
