"""All readers by name, and the choice of a reader by content."""

from pathlib import Path

from videollm.datasets import activitynet, didemo, msrvtt, msvd, own, video_chatgpt, world
from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.charades_sta import CharadesSTA
from videollm.datasets.egoschema import EgoSchema
from videollm.datasets.evaluation_folder import ItemReader
from videollm.datasets.howto100m import HowTo100M
from videollm.datasets.kinetics import Kinetics
from videollm.datasets.llava import LlavaConversations
from videollm.datasets.longvideobench import LongVideoBench
from videollm.datasets.lsmdc import LSMDC
from videollm.datasets.mlvu import MLVU
from videollm.datasets.mvbench import MVBench
from videollm.datasets.next_qa import NextOpenQA, NextQA
from videollm.datasets.qvhighlights import QVHighlights
from videollm.datasets.something import SomethingSomething
from videollm.datasets.subtitles import Subtitles
from videollm.datasets.tgif_qa import TgifQA
from videollm.datasets.vatex import Vatex
from videollm.datasets.video_mme import VideoMME
from videollm.datasets.webvid import WebVid
from videollm.errors import DataError

# Two classes of one file share a data set: its captions and its questions were published apart, under two names.
CLIP_READERS: dict[str, ClipReader] = {
    reader.name: reader
    for reader in (
        msrvtt.MsrVtt(),
        msvd.Msvd(),
        activitynet.ActivityNetCaptions(),
        didemo.DiDeMo(),
        LSMDC(),
        WebVid(),
        HowTo100M(),
        Subtitles(),
        Kinetics(),
        SomethingSomething(),
        video_chatgpt.VideoChatGPTInstructions(),
        LlavaConversations(),
        world.World(),
        own.OwnTable(),
    )
}
ITEM_READERS: dict[str, ItemReader] = {
    reader.name: reader
    for reader in (
        world.World(),
        msrvtt.MsrVttQA(),
        msvd.MsvdQA(),
        TgifQA(),
        activitynet.ActivityNetQA(),
        NextQA(),
        NextOpenQA(),
        EgoSchema(),
        MVBench(),
        VideoMME(),
        MLVU(),
        LongVideoBench(),
        CharadesSTA(),
        QVHighlights(),
        didemo.DiDeMo(),
        Vatex(),
        video_chatgpt.VideoChatGPTBenchmark(),
        own.OwnItems(),
    )
}


def choose_clip_reader(file: AnnotationFile, name: str | None = None) -> ClipReader:
    """Returns the reader called `name`, or the only one that recognises the file.

    A table of the user's own has the least specific columns, so it is tried last. Raises DataError, which lists the
    names, if there is no such reader, or if the content fits none or several.
    """
    if name is not None:
        if name not in CLIP_READERS:
            raise DataError(f"format {name!r} is not known; choose one of {', '.join(CLIP_READERS)}")
        if not CLIP_READERS[name].recognises(file):
            raise DataError(f"{file.path} is not of format {name}; see the layouts in videollm/datasets")
        return CLIP_READERS[name]
    table = CLIP_READERS[own.OwnTable.name]
    found = [reader for reader in CLIP_READERS.values() if reader is not table and reader.recognises(file)]
    if not found and table.recognises(file):
        return table
    if len(found) != 1:
        fits = f"fits {', '.join(r.name for r in found)}" if found else "is of no known format"
        raise DataError(f"{file.path} {fits}; say --format, one of {', '.join(CLIP_READERS)}")
    return found[0]


def choose_item_reader(root: Path, task: str, name: str | None = None) -> ItemReader:
    """Returns the reader called `name`, or the only one of the task whose files are in the folder.

    Raises DataError, which lists the names, if there is no such reader, or if the folder fits none or several.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder; --data takes the folder that holds a dataset's annotations and videos"
        )
    if name is not None:
        if name not in ITEM_READERS:
            raise DataError(f"there is no format {name!r}; choose from {', '.join(ITEM_READERS)}")
        return ITEM_READERS[name]
    found = [reader for reader in ITEM_READERS.values() if task in reader.tasks and reader.recognises_folder(root)]
    if len(found) != 1:
        fits = f"fits {', '.join(r.name for r in found)}" if found else f"has the files of no dataset for {task}"
        raise DataError(
            f"{root} {fits}; say --format, one of {', '.join(ITEM_READERS)} (each layout is described in "
            "videollm/datasets)"
        )
    return found[0]
