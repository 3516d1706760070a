"""Labelled videos, which action recognition is trained on.

A file of labelled videos is one of
- CSV with a header: `video,label` and, where wanted, `start,end` in seconds;
- JSON Lines of the same fields. `label` may be a list there, such as a verb and a noun; all rows have equally many;
- the annotation of Kinetics (`train.csv`) or of Something-Something V2 (`train.json`).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.configs.recognition import RecognitionRecipe
from train.core.gradcache import TensorBatch
from train.data.frames import frame_store
from train.data.pairs import VideoInterval, interval, table_rows
from train.data.tower_features import TowerFeatureStore, feature_store
from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.kinetics import Kinetics
from videollm.datasets.something import SomethingSomething
from videollm.errors import DataError
from videollm.retrieval.clip import VisionTransformer
from videollm.retrieval.inputs import resize_of
from videollm.retrieval.open_clip_towers import OpenClipVision
from videollm.retrieval.recogniser import Classes, views_of

FIELDS = {"video", "label", "start", "end"}


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """A part of a video and its labels."""

    part: VideoInterval
    labels: tuple[str, ...]


def read_labels(path: Path, videos: Path | None = None) -> list[LabelledVideo]:
    """Returns the labelled videos of a file.

    Of a published data set, rows that cannot be read and rows whose video is not there are left out and counted on the
    standard error stream, because parts of these collections are no longer available.

    Args:
        path: The file.
        videos: The folder of the videos; None: that of the file.

    Raises:
        DataError: If a row of a table cannot be read, labels differ in number, or no row is left.
    """
    folder = videos or path.parent
    file = AnnotationFile(path, folder) if path.is_file() else None
    reader = next((r for r in (Kinetics(), SomethingSomething()) if file and r.recognises(file)), None)
    if file is None or reader is None:
        rows = [_labelled(path, folder, i, row) for i, row in table_rows(path, "labelled")]
    else:
        rows = _published(reader, file)
    if not rows:
        raise DataError(f"{path} names no video that is in {folder}; give rows, and the folder of the videos (videos)")
    if len(counts := {len(row.labels) for row in rows}) > 1:
        raise DataError(f"{path}: rows have {' or '.join(map(str, sorted(counts)))} labels; give all rows equally many")
    return rows


def _published(reader: ClipReader, file: AnnotationFile) -> list[LabelledVideo]:
    clips = list(reader.clips(file))
    there = [(clip.video, clip.action) for clip in clips if clip.video and clip.video.is_file()]
    rows = [LabelledVideo(VideoInterval(video), (action,)) for video, action in there if action]
    for reason, count in file.broken.reasons.items():
        print(f"{file.path}: {count} rows are left out: {reason}", file=sys.stderr)
    if missing := len(clips) - len(rows):
        print(
            f"{file.path}: {missing} of {len(clips)} videos are not in {file.videos}; they are left out",
            file=sys.stderr,
        )
    return rows


def _labelled(path: Path, folder: Path, number: int, row: Mapping[str, Any]) -> LabelledVideo:
    video, label = row.get("video"), row.get("label")
    if not isinstance(video, str) or not video or "label" not in row or row.keys() - FIELDS:
        raise DataError(
            f"{path}, row {number}: has {', '.join(map(repr, row))}; it needs video and label, and may have start and "
            "end; a label with a comma in it has to be quoted"
        )
    given = label if isinstance(label, list) else [label]
    labels = [name.strip() for name in given if isinstance(name, str) and name.strip()]
    if not labels or len(labels) < len(given):
        raise DataError(f"{path}, row {number}: label is {label!r}; give a text, or in JSON Lines a list of texts")
    part = interval(path, number, row)
    return LabelledVideo(VideoInterval(folder / video, part.start, part.end), tuple(labels))


def write_labels(path: Path, rows: Sequence[LabelledVideo]) -> None:
    """Writes JSON Lines that `read_labels` reads."""
    values = ({"video": str(r.part.video), "label": r.labels, "start": r.part.start, "end": r.part.end} for r in rows)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in values), encoding="utf-8")


def classes_of(rows: Sequence[LabelledVideo]) -> Classes:
    """Returns the classes of each label, sorted by name."""
    return tuple(tuple(sorted(set(names))) for names in zip(*(row.labels for row in rows), strict=True))


class LabelBatches:
    """Batches of videos, as frames or as what the frozen tower made of them, and the numbers of their classes.

    A batch has `mask` (B,T), `pixels` (B,T,3,S,S) or `embed` and `tokens`, as in `train.tasks.contrastive`, and
    `classes`, int64 (B,K) for K labels.

    Args:
        rows: The videos.
        recipe: The recipe.
        tower: The visual tower.
        layers: How many of its last layers the head reads.
        classes: The classes of each label.
        views: Samples of each video.

    Attributes:
        rows: The videos that could be read. Errors of others are printed.

    Raises:
        DataError: If a video has a label that is not among the classes, or no video can be read.
    """

    def __init__(
        self,
        rows: Sequence[LabelledVideo],
        recipe: RecognitionRecipe,
        tower: VisionTransformer | OpenClipVision,
        layers: int,
        classes: Classes,
        views: int = 1,
    ):
        self.views, dataset = views, recipe.dataset
        numbers = [{name: i for i, name in enumerate(names)} for names in classes]
        for row in rows:
            if len(row.labels) != len(classes):
                raise DataError(
                    f"{row.part.video} has {len(row.labels)} labels, and the training videos have {len(classes)}"
                )
            if unknown := [x for x, known in zip(row.labels, numbers, strict=True) if x not in known]:
                raise DataError(f"{row.part.video} has the label {unknown[0]!r}, which no training video has")
        self.frames = frame_store(
            [row.part for row in rows],
            fps=views * dataset.fps or None,
            max_frames=views * dataset.max_frames,
            size=tower.config.image_size,
            resize=resize_of(tower),
            cache=Path(dataset.cache),
            strict=False,
        )
        read = {*np.flatnonzero(np.isfinite(self.frames.times_s).any(1)).tolist()}
        place = {part: i for i, part in enumerate(self.frames.parts) if i in read}
        self.rows = [row for row in rows if row.part in place]
        if not self.rows:
            raise DataError(f"none of {len(rows)} videos can be read, such as {rows[0].part.video}")
        if left := [row.part.video for row in rows if row.part not in place]:
            print(
                f"{len(left)} of {len(rows)} videos cannot be read, such as {left[0]}; they are left out",
                file=sys.stderr,
            )
        self.classes = torch.tensor([[n[x] for x, n in zip(r.labels, numbers, strict=True)] for r in self.rows])
        self.video_of = torch.tensor([place[row.part] for row in self.rows])
        self.features: TowerFeatureStore | None = None
        if recipe.network.visual == "freeze":
            self.features = feature_store(self.frames, tower, layers, Path(dataset.cache))

    def __call__(self, rows: list[int]) -> dict[str, TensorBatch]:
        """Returns a batch with the frames of all views together."""
        return {"batch": {**self._frames(rows), "classes": self.classes[rows]}}

    def by_view(self, rows: list[int]) -> list[TensorBatch]:
        """Returns the frames of each view. A video with few frames may have none in the last views."""
        views = {name: views_of(x, self.views, 1) for name, x in self._frames(rows).items()}
        return [{name: x[v] for name, x in views.items()} for v in range(self.views)]

    def _frames(self, rows: list[int]) -> TensorBatch:
        videos = self.video_of[rows].tolist()
        pixels, mask = self.frames.batch(videos)
        return {"mask": mask} | ({"pixels": pixels} if self.features is None else self.features.batch(videos))
