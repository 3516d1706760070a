"""LLaVA's conversation format (Liu et al. 2023) with videos, as Video-ChatGPT, Video-LLaVA and LLaVA-Video use it: a
JSON list of objects with id, video and conversations, whose turns are from human and gpt."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from data_gen.clips import Clip
from data_gen.readers.base import Source
from videollm.datasets.schema import Message

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
FEATURES = (".pkl", ".npy", ".pt", ".safetensors")  # some files name features made of a video of the same name
_PLACE = re.compile(r"\s*<(?:video|image)>\s*")


class LlavaReader:
    name = "llava"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, list) and "conversations" in source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for number, (where, row) in enumerate(source.entries(source.json), 1):
            with source.report.row(where):
                name = PurePosixPath(row["video"])
                turns = [Message(ROLES[t["from"]], _PLACE.sub("\n", t["value"]).strip()) for t in row["conversations"]]
                yield Clip(
                    id=f"{row.get('id', name.stem)}-{number}",
                    video=source.video(str(name.with_suffix("") if name.suffix in FEATURES else name)),
                    source=self.name,
                    dialogues=(tuple(turns),),
                )
