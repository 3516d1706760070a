"""What a file that is cut off has lost."""

import os
import re

from av.container import InputContainer
from av.video.stream import VideoStream


def missing_frames(path: str, container: InputContainer, stream: VideoStream, count: int, end_s: float) -> int:
    """Returns the number of frames that the header promises and the file no longer has. count: the packets it has.

    Only numbers that containers give per stream are used: MP4's index after its edit list, and in files that are
    shorter than their headers say, Matroska's DURATION tag (an end time, with the start offset) and AVI's frame count.
    Editors leave both of them as they were.
    """
    if "mp4" in container.format.name:
        return max(0, len(stream.index_entries) - count)
    if not _is_cut_off(path):
        return 0
    if container.format.name == "avi":
        return max(0, stream.frames - count)
    if (tag := _DURATION.fullmatch(stream.metadata.get("DURATION", ""))) is None:
        return 0
    declared_s = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
    return max(0, round((declared_s - end_s) * float(stream.average_rate or 0)))


# The form in which Matroska's writers state the end of a track.
_DURATION = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", re.ASCII)


def _is_cut_off(path: str) -> bool:
    """Whether an AVI or Matroska file is shorter than the size of its outermost element."""
    with open(path, "rb") as file:
        head = file.read(4096)
        size = file.seek(0, os.SEEK_END)
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little") > size
    at = head.find(b"\x18\x53\x80\x67") + 4  # Matroska's Segment (RFC 9559, 5.1), after the header of EBML
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 4 or at >= len(head) or not head[at]:
        return False
    # A size of EBML (RFC 8794, 4): as many leading zero bits as bytes follow. All ones are an unknown size.
    width = 9 - head[at].bit_length()
    length = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return length != (1 << 7 * width) - 1 and at + width + length > size
