"""The protocol that every task is one small class on: items -> predictions -> rows of scores.

To add a task: write such a class in a module beside this one and name it in `tasks/__init__.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.subject import Subject


class Task(Protocol):
    """name: as in `videollm eval NAME`. about: how a prediction is made and scored, as reports say it. controls: those
    that mean something for it (`views.CONTROLS`)."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    def lacks(self, item: Item) -> str | None:
        """What an item would need to be one of this task's, None where it has all of it."""
        ...

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        """Plain values, which are all that `score` sees. Nothing random."""
        ...

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Mapping[str, Rows]:
        """A row for each item by metric, the headline metric first; NaN where an item has no score of it. What becomes
        of rows: `metrics.aggregate`."""
        ...

    def chance(self, items: Sequence[Item]) -> Mapping[str, float]:
        """What metrics reach without any look at the videos, where that can be computed."""
        ...
