"""Reading of video files: frames with their presentation times.

The names below are imported when they are first used: a process that only demultiplexes needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videollm.video.decoding import decode, iter_frames, probe
    from videollm.video.frames import Frames, VideoInfo

__all__ = ["Frames", "VideoInfo", "decode", "iter_frames", "probe"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "frames" if name in ("Frames", "VideoInfo") else "decoding"
    return getattr(import_module(f"videollm.video.{home}"), name)
