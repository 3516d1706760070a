"""The tasks of `videollm eval`, by name."""

from videollm.evaluate.tasks.base import Task
from videollm.evaluate.tasks.caption import Caption
from videollm.evaluate.tasks.classify import Classify
from videollm.evaluate.tasks.dense import Dense
from videollm.evaluate.tasks.grounding import Grounding
from videollm.evaluate.tasks.live import LiveQuestions
from videollm.evaluate.tasks.mcqa import MultipleChoice
from videollm.evaluate.tasks.openqa import OpenQA
from videollm.evaluate.tasks.retrieval import Retrieval
from videollm.evaluate.tasks.summary import SummaryTask

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Retrieval(),
        MultipleChoice(),
        OpenQA(),
        Caption(),
        Dense(),
        Grounding(),
        Classify(),
        SummaryTask(),
        LiveQuestions(),
    )
}
