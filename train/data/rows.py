"""The rows of instruction files (`videollm/datasets/schema.py`), in memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

from videollm.datasets.schema import Provenance, Sample, read
from videollm.errors import ConfigError, DataError


def is_caption(sample: Sample) -> bool:
    """Whether the answer is a caption of the shown part of the video, and nothing else."""
    return bool(sample.video) and sample.task.startswith("caption") and sample.task != "caption/dense"


class InstructionRows(Sequence[Sample]):
    """The rows of several files, one file after the other, each parsed once.

    files: FILE or FILE=WEIGHT. The weights, which a sampler reads, say how often each file is drawn; None where no file
    has one. only: which rows are used. Videos become paths that can be opened as they are.

    Raises DataError, which names file and row, for the first row that does not follow the schema, and for a file
    without a row that `only` accepts.
    """

    def __init__(self, files: Sequence[str], only: Callable[[Sample], bool] | None = None):
        self.files, self.weights = _weighted(files)
        self.samples: list[Sample] = []
        self.sizes: list[int] = []
        # Rows of one file share few provenances and videos; one copy of each keeps a million rows within about 1 GB.
        provenances: dict[Provenance, Provenance] = {}
        for path in self.files:
            before = len(self.samples)
            for sample in read(path):
                if only is None or only(sample):
                    video = intern(str(path.parent / sample.video)) if sample.video else ""
                    provenance = provenances.setdefault(sample.provenance, sample.provenance)
                    self.samples.append(replace(sample, video=video, provenance=provenance))
            self.sizes.append(len(self.samples) - before)
            if not self.sizes[-1]:
                raise DataError(f"{path} has no row that this training uses")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Sample:
        return self.samples[index]

    def keep(self, index: Sequence[int]) -> None:
        """Leave out all rows but those with these numbers."""
        ends = np.cumsum([0, *self.sizes])
        kept = np.array(index, dtype=int)
        self.sizes = [int(((kept >= a) & (kept < b)).sum()) for a, b in pairwise(ends)]
        self.samples = [self.samples[i] for i in kept]


def _weighted(files: Sequence[str]) -> tuple[list[Path], tuple[float, ...] | None]:
    paths, weights, is_weighted = [], [], False
    for text in files:
        # A file that exists under the whole name may have "=" in it.
        name, weight = (text, None) if "=" not in text or Path(text).is_file() else text.rsplit("=", 1)
        try:
            weights.append(1.0 if weight is None else float(weight))
        except ValueError:
            weights.append(math.nan)
        if not 0 < weights[-1] < math.inf:
            raise ConfigError(
                f"data {text!r} has the weight {weight!r}; write FILE, or FILE=WEIGHT with a number above 0"
            )
        paths.append(Path(name))
        is_weighted = is_weighted or weight is not None
    return paths, tuple(weights) if is_weighted else None
