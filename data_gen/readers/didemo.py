"""DiDeMo (Hendricks et al. 2017): `train_data.json` and its like; a moment's description and, from each of several
annotators, the first and last of the five-second pieces that it covers. The span most annotators chose is taken."""

from collections import Counter
from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source

PIECE_S = 5


class DidemoReader:
    name = "didemo"

    def matches(self, source: Source) -> bool:
        return isinstance(source.json, list) and {"annotation_id", "description", "times", "video"} <= source.fields

    def read(self, source: Source) -> Iterator[Clip]:
        for where, moment in source.entries(source.json):
            with source.report.row(where):
                ((first, last), _), *_ = Counter((a, b) for a, b in moment["times"]).most_common(1)
                note = Note(
                    kind="event",
                    text=moment["description"].strip(),
                    start=float(PIECE_S * first),
                    end=float(PIECE_S * (last + 1)),
                )
                yield Clip(
                    id=str(moment["annotation_id"]),
                    video=source.video(moment["video"]),
                    source=self.name,
                    notes=(note,),
                )
