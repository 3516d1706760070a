"""Readers of annotated video collections, one module a format, chosen by name or by what a file holds."""

from data_gen.readers.activitynet import ActivityNetReader
from data_gen.readers.base import Reader, Report, Source
from data_gen.readers.didemo import DidemoReader
from data_gen.readers.howto100m import HowTo100MReader
from data_gen.readers.kinetics import KineticsReader
from data_gen.readers.llava import LlavaReader
from data_gen.readers.lsmdc import LsmdcReader
from data_gen.readers.msrvtt import MsrVttReader
from data_gen.readers.msvd import MsvdReader
from data_gen.readers.plain import PlainReader
from data_gen.readers.something import SomethingReader
from data_gen.readers.subtitles import SubtitlesReader
from data_gen.readers.video_chatgpt import VideoChatGptReader
from data_gen.readers.webvid import WebVidReader
from data_gen.readers.world import WorldReader
from videollm.errors import DataError

__all__ = ["READERS", "Reader", "Report", "Source", "choose"]

_PLAIN = PlainReader()
READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        MsrVttReader(),
        MsvdReader(),
        ActivityNetReader(),
        DidemoReader(),
        LsmdcReader(),
        WebVidReader(),
        HowTo100MReader(),
        SubtitlesReader(),
        KineticsReader(),
        SomethingReader(),
        VideoChatGptReader(),
        LlavaReader(),
        WorldReader(),
        _PLAIN,
    )
}


def choose(source: Source, name: str | None = None) -> Reader:
    """The reader called `name`, or the only one whose format the file has. A table of your own is the last guess.

    Raises DataError that lists the names where there is no such reader, or the content fits none or several.
    """
    if name is not None:
        if name not in READERS:
            raise DataError(f"format {name!r} is not known; choose one of {', '.join(READERS)}")
        if not READERS[name].matches(source):
            raise DataError(f"{source.path} is not of format {name}; see data_gen/readers/{name}.py")
        return READERS[name]
    found = [reader for reader in READERS.values() if reader is not _PLAIN and reader.matches(source)]
    if not found and _PLAIN.matches(source):
        return _PLAIN
    if len(found) != 1:
        fits = f"fits {', '.join(r.name for r in found)}" if found else "is of no known format"
        raise DataError(f"{source.path} {fits}; say --format, one of {', '.join(READERS)}")
    return found[0]
