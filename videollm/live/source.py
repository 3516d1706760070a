"""What is watched: its address, its kind, and how it is opened."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from videollm.errors import ConfigError, VideoNotFoundError

SourceKind = Literal["rtsp", "http", "device", "file", "growing"]

_SCHEMES: dict[str, SourceKind] = {"rtsp": "rtsp", "http": "http", "https": "http"}
_DEVICE = re.compile(r"/dev/video\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamSource:
    """A source and how it is read.

    Attributes:
        url: An rtsp://, http:// or https:// address (HLS, FLV or any container), /dev/videoN, or the path of a file.
        fps: The frames that are taken of a second of the stream.
        speed: How many seconds of a file are played in one second. A file that is played waits for its consumer, so
            that no frame is lost. Other sources do not wait.
        follow: Whether a file is still being written: its end is waited for, not reached.
        timeout_s: The seconds without data after which a source counts as lost, or a growing file as complete.
        public_only: Whether http addresses must belong to the public internet, as an address in a request to a server.

    Raises:
        ConfigError: If the address is of another kind, or an option does not apply to it.
        VideoNotFoundError: If the file does not exist.
    """

    url: str
    fps: float = 1.0
    speed: float = 1.0
    follow: bool = False
    timeout_s: float = 10.0
    public_only: bool = False

    def __post_init__(self) -> None:
        for name in ("fps", "speed", "timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be above 0")
        is_file = self.kind in ("file", "growing")
        if not is_file and (self.speed != 1 or self.follow):
            raise ConfigError(f"{self.name} is no file; speed and follow apply to files")
        if self.follow and self.speed != 1:
            raise ConfigError(f"{self.name} is followed while it grows; it has no speed of its own")
        if is_file and not Path(self.url).is_file():
            raise VideoNotFoundError(self.url, "no such file" if not Path(self.url).exists() else "not a file")

    @property
    def kind(self) -> SourceKind:
        scheme, separator, _ = self.url.partition("://")
        if separator:
            if scheme.lower() not in _SCHEMES:
                raise ConfigError(
                    f"{scheme}:// streams are not supported; give rtsp://, http:// or https://, /dev/videoN or a file"
                )
            return _SCHEMES[scheme.lower()]
        if _DEVICE.fullmatch(self.url):
            return "device"
        return "growing" if self.follow else "file"

    @property
    def is_live(self) -> bool:
        """Whether the source goes on by itself, whether or not somebody reads it."""
        return self.kind != "file"

    @property
    def name(self) -> str:
        """The address without a user's name and password, which logs and indexes must not hold."""
        if "://" not in self.url:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

    @property
    def label(self) -> str:
        """What the stream is called in an index: its address, or the name of the file that is played."""
        return self.name if self.is_live else Path(self.url).name
