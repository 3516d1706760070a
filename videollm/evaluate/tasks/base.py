"""The protocol of a task: it turns items into predictions, and predictions into rows of scores.

To add a task, write a class with this protocol in a module of this package and add it to `TASKS` in
`tasks/__init__.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from videollm.datasets.item import Item, Prediction
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.metrics.precision_recall import Curves
from videollm.evaluate.subject import Subject


class Task(Protocol):
    """A way to evaluate a model.

    Attributes:
        name: The name of the subcommand, as in `videollm eval NAME`.
        about: How a prediction is made and scored. Reports and `--help` print it; its first sentence names the task.
        controls: The controls of `views` that can change the predictions of this task.
    """

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    def lacks(self, item: Item) -> str | None:
        """Returns what the item would need to fit this task, as a noun phrase, or None if it fits."""
        ...

    def predict(self, subject: Subject, item: Item, condition: str) -> Prediction:
        """Returns the prediction for one item as plain JSON values.

        `score` sees nothing else, so that predictions of other programs are scored in the same way. The result must
        not depend on chance or on other items, because a stopped run continues in the middle.
        """
        ...

    def score(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Mapping[str, Rows]:
        """Returns the rows by metric, (n,) or (n,s) with one row an item, the headline metric first.

        An item without a score has NaN. `metrics.aggregate` turns rows into the value of the metric.
        """
        ...

    def chance(self, items: Sequence[Item]) -> Mapping[str, float]:
        """Returns the expected value of each metric for guesses that ignore the videos, if it can be computed."""
        ...


@runtime_checkable
class ScoredTask(Task, Protocol):
    """A task whose predictions have scores, so that a threshold decides what is predicted."""

    def curves(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Curves:
        """Returns precision and recall over all thresholds."""
        ...
