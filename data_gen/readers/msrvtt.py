"""MSR-VTT (Xu et al. 2016): `train_val_videodatainfo.json` or `test_videodatainfo.json`, 20 captions a clip.

The clips are distributed already cut, so the times in the file, which are YouTube's, are not used.
"""

from collections import defaultdict
from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source


class MsrVttReader:
    name = "msrvtt"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, dict) and {"videos", "sentences"} <= source.json.keys()

    def read(self, source: Source) -> Iterator[Clip]:
        notes: defaultdict[str, list[Note]] = defaultdict(list)
        for where, sentence in source.entries(source.json["sentences"], "sentence"):
            with source.report.row(where):
                notes[sentence["video_id"]].append(Note(kind="short", text=sentence["caption"].strip()))
        for where, video in source.entries(source.json["videos"], "video"):
            with source.report.row(where):
                name = video["video_id"]
                if name not in notes:
                    raise ValueError("no sentence describes the video")
                yield Clip(id=name, video=source.video(name), source=self.name, notes=tuple(notes.pop(name)))
        for name in notes:
            source.report.broken(f"{source.path.name} video_id {name}", "sentences of a video that is not listed")
