"""Readers of evaluation data from a local folder, chosen by name or by what the folder holds."""

from pathlib import Path

from videollm.errors import DataError
from videollm.evaluate.readers.activitynet_qa import ActivityNetQA
from videollm.evaluate.readers.base import Data, Reader, Wanted
from videollm.evaluate.readers.captioned_qa import MsrVttQA, MsvdQA
from videollm.evaluate.readers.charades_sta import CharadesSTA
from videollm.evaluate.readers.didemo import DiDeMo
from videollm.evaluate.readers.egoschema import EgoSchema
from videollm.evaluate.readers.longvideobench import LongVideoBench
from videollm.evaluate.readers.mlvu import MLVU
from videollm.evaluate.readers.mvbench import MVBench
from videollm.evaluate.readers.next_qa import NextOpenQA, NextQA
from videollm.evaluate.readers.own import Own
from videollm.evaluate.readers.qvhighlights import QVHighlights
from videollm.evaluate.readers.tgif_qa import TgifQA
from videollm.evaluate.readers.vatex import Vatex
from videollm.evaluate.readers.video_chatgpt import VideoChatGPT
from videollm.evaluate.readers.video_mme import VideoMME
from videollm.evaluate.readers.world import WorldReader

__all__ = ["READERS", "Data", "Wanted", "choose"]

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        WorldReader(),
        MsrVttQA(),
        MsvdQA(),
        TgifQA(),
        ActivityNetQA(),
        NextQA(),
        NextOpenQA(),
        EgoSchema(),
        MVBench(),
        VideoMME(),
        MLVU(),
        LongVideoBench(),
        CharadesSTA(),
        QVHighlights(),
        DiDeMo(),
        Vatex(),
        VideoChatGPT(),
        Own(),
    )
}


def choose(root: Path, task: str, name: str | None = None) -> Reader:
    """The reader called `name`, else the only one of the task whose files the folder has.

    Raises DataError that lists the names where there is no such reader, or the folder fits none or several.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder; --data takes the folder that holds a dataset's annotations and videos")
    if name is not None:
        if name not in READERS:
            raise DataError(f"there is no format {name!r}; choose from {', '.join(READERS)}")
        return READERS[name]
    found = [reader for reader in READERS.values() if task in reader.tasks and reader.matches(root)]
    if len(found) != 1:
        fits = f"fits {', '.join(r.name for r in found)}" if found else f"has the files of no dataset for {task}"
        raise DataError(f"{root} {fits}; say --format, one of {', '.join(READERS)} (videollm/evaluate/readers says how "
                        "each is laid out)")  # fmt: skip
    return found[0]
