"""Kinetics (Kay et al. 2017): `train.csv` and its like. Clips are files YOUTUBEID_START_END.mp4, six digits a time, in
one folder or in one for each label."""

from collections.abc import Iterator

from data_gen.clips import Clip, Note
from data_gen.readers.base import Source


class KineticsReader:
    name = "kinetics"

    def matches(self, source: Source) -> bool:
        return source.fields >= {"label", "youtube_id", "time_start", "time_end"}

    def read(self, source: Source) -> Iterator[Clip]:
        for where, row in source.rows():
            with source.report.row(where):
                label = row["label"]
                name = f"{row['youtube_id']}_{int(row['time_start']):06}_{int(row['time_end']):06}"
                inside = source.video(f"{label}/{name}")
                video = inside if inside.exists() else source.video(name)
                yield Clip(id=name, video=video, source=self.name, notes=(Note(kind="label", text=label),))
