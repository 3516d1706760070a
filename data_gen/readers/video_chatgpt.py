"""Video-ChatGPT's instruction data (Maaz et al. 2023): a JSON list of objects with q, a and video_id."""

from collections.abc import Iterator

from data_gen.clips import Clip
from data_gen.readers.base import Source
from videollm.datasets.schema import Message


class VideoChatGptReader:
    name = "video_chatgpt"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, list) and {"q", "a", "video_id"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for number, (where, row) in enumerate(source.entries(source.json), 1):
            with source.report.row(where):
                name = row["video_id"]
                turn = (Message("user", row["q"].strip()), Message("assistant", row["a"].strip()))
                yield Clip(id=f"{name}-{number}", video=source.video(name), source=self.name, dialogues=(turn,))
