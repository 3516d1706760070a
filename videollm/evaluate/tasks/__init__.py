"""All tasks by name."""

from videollm.evaluate.tasks.base import Task
from videollm.evaluate.tasks.openqa import OpenQA

TASKS: dict[str, Task] = {task.name: task for task in (OpenQA(),)}
