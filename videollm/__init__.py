"""Chat with, caption, search and train on video.

The names below are imported when they are first used, so that `import videollm` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videollm.chat.session import ChatSession
    from videollm.checkpoint import load
    from videollm.config import SamplingConfig
    from videollm.video.decoding import decode, probe

    __version__: str

__all__ = ["ChatSession", "SamplingConfig", "__version__", "decode", "load", "probe"]

_HOME = {
    "ChatSession": "videollm.chat.session",
    "SamplingConfig": "videollm.config",
    "decode": "videollm.video.decoding",
    "load": "videollm.checkpoint",
    "probe": "videollm.video.decoding",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("videollm")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
