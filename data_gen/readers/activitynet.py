"""ActivityNet Captions (Krishna et al. 2017): `train.json`, `val_1.json`, `val_2.json`; events with their times."""

from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source


class ActivityNetReader:
    name = "activitynet"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, dict) and {"duration", "timestamps", "sentences"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for where, (name, video) in source.entries(source.json):
            with source.report.row(where):
                notes = [
                    Note(kind="event", text=text.strip(), start=float(start), end=float(end))
                    for (start, end), text in zip(video["timestamps"], video["sentences"], strict=True)
                ]
                yield Clip(
                    id=name,
                    video=source.video(name),
                    source=self.name,
                    duration=float(video["duration"]),
                    notes=tuple(notes),
                )
