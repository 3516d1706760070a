"""Loads what a request names (a data: URL, an uploaded file, an address or a path) into a file that may be decoded."""

import asyncio
import base64
import binascii
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serve.api.errors import APIError
from serve.config import ServerConfig
from serve.runtime.files import FileStore
from serve.security.fetch import MEDIA_TYPES, Fetcher
from videollm.config import SamplingConfig

MAX_HASHES = 1024  # of files below the media root


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file with the SHA-256 of its content. `source` is the name in the request, or "data:" for any data: URL."""

    path: Path
    sha: str
    source: str


class MediaLoader:
    """Loads media within the server's limits, from the sources that its configuration allows."""

    def __init__(self, config: ServerConfig, files: FileStore, folder: Path, fetcher: Fetcher | None = None):
        self.config, self.files, self.folder = config, files, folder
        self._fetcher = fetcher or Fetcher(config.limits)
        self._root = config.media_root and config.media_root.resolve(strict=True)
        self._hashes: dict[tuple[int, ...], str] = {}

    @asynccontextmanager
    async def open(self, url: str, owner: str) -> AsyncIterator[MediaFile]:
        """Provides the file for as long as the context lasts. Files that came with the request are deleted afterwards.

        Raises APIError with the reason.
        """
        url = url.strip()
        scheme = url.partition(":")[0].lower()
        if url.startswith("file-"):
            file = self.files.get(owner, url)
            yield MediaFile(file.path, file.sha, file.id)
        elif scheme == "file":
            with self._opened_below_root(url) as descriptor:
                sha = await asyncio.to_thread(self._sha256, descriptor)
                yield MediaFile(_path_of(descriptor), sha, url)
        elif scheme in ("data", "http", "https"):
            with tempfile.NamedTemporaryFile(dir=self.folder) as target:
                if scheme == "data":
                    # In a thread: base64 of 64 MiB would stop the event loop for a tenth of a second.
                    data = await asyncio.to_thread(_decode_data, url, self.config.limits.media_bytes)
                    target.write(data)
                    digest, source = hashlib.sha256(data), "data:"
                else:
                    digest, source = hashlib.sha256(), url
                    async for piece in self._remote(url):
                        digest.update(piece)
                        target.write(piece)
                target.flush()
                yield MediaFile(Path(target.name), digest.hexdigest(), source)
        else:
            raise _refusal("give a data: URL, the id of an uploaded file, or an address or path that the server allows")

    def _remote(self, url: str) -> AsyncIterator[bytes]:
        if not self.config.allow_remote:
            raise _refusal("this server fetches no remote files; upload the file, or start it with --allow-remote")
        return self._fetcher.fetch(url)

    @contextmanager
    def _opened_below_root(self, url: str) -> Iterator[int]:
        """Provides a descriptor of the file that a file:// URL names. Raises APIError.

        The file is opened once, step by step from the media root and without following links. What is then checked,
        hashed and decoded is this file, whatever becomes of the folders meanwhile. A missing file and one outside the
        media root get the same error, which reveals nothing about other folders.
        """
        if self._root is None:
            raise _refusal("this server reads no local files; upload the file, or start it with --media-root DIR")
        with ExitStack() as opened:
            descriptor = None
            with suppress(OSError, ValueError, RuntimeError):
                parts = urlsplit(url)
                path = Path(unquote(parts.path)).resolve(strict=True)  # links inside of the root are allowed
                if parts.netloc in ("", "localhost"):
                    descriptor = open_below(self._root, path.relative_to(self._root))
                    opened.callback(os.close, descriptor)
            if descriptor is None:
                raise _refusal("there is no such file below the server's media root")
            if os.fstat(descriptor).st_size > self.config.limits.media_bytes:
                raise _refusal(f"it is larger than {self.config.limits.media_bytes >> 20} MiB")
            yield descriptor

    def _sha256(self, descriptor: int) -> str:
        """Returns the hash of an open file, kept for as long as the system's marks of the file say it is unchanged."""
        seen = os.fstat(descriptor)
        # The time of change (ctime), unlike that of modification, cannot be set by the file's owner.
        key = seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
        if key not in self._hashes:
            with open(_path_of(descriptor), "rb") as file:
                self._hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
            while len(self._hashes) > MAX_HASHES:
                self._hashes.pop(next(iter(self._hashes)), None)
        return self._hashes[key]


def open_below(root: Path, path: Path) -> int:
    """Returns a descriptor of the regular file at a relative path below a folder. Raises OSError at any link.

    Every step is opened below the one before, so that no folder can be exchanged for a link in between.
    """
    *folders, name = path.parts or (".",)
    with ExitStack() as steps:
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        steps.callback(os.close, at)
        for folder in folders:
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            steps.callback(os.close, at)
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)  # a pipe would block
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise FileNotFoundError(path)
    return found


def _path_of(descriptor: int) -> Path:
    """Returns a path by which processes of this user can open the file of a descriptor again."""
    own = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    if own.exists():
        return own
    return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))  # macOS


def _decode_data(url: str, max_bytes: int) -> bytes:
    """Returns what a data: URL holds. Its base64 may have white space and lack its padding, as in browsers (WHATWG's
    forgiving-base64). Raises APIError."""
    head, comma, body = url.partition(",")
    kind, *parameters = (part.strip().lower() for part in head[len("data:") :].split(";"))
    if not comma or parameters[-1:] != ["base64"]:
        raise _refusal("a data: URL must look like data:video/mp4;base64,AAAA...")
    if not kind.startswith(MEDIA_TYPES):
        raise _refusal(f"its type is {kind[:40] or 'text/plain'!r}, not a video or an image")
    data = "".join((unquote(body) if "%" in body else body).split()).rstrip("=")
    if len(data) * 3 // 4 > max_bytes:  # base64 has 4 characters for 3 bytes
        raise _refusal(f"it is larger than {max_bytes >> 20} MiB")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refusal("its data is not base64") from error


def _refusal(reason: str) -> APIError:
    return APIError(400, f"the video cannot be used: {reason}", "invalid_media_url")


def request_sampling(
    model: SamplingConfig,
    max_frames: int,
    *,
    frames: int | None,
    fps: float | None,
    start_s: float | None,
    end_s: float | None,
    detail: str,
) -> SamplingConfig:
    """Returns the sampling that a request's `video` object selects. The default is that of the model.

    The details low and high halve and double the model's rate. A request that sets neither a rate nor a number of
    frames gets at most `max_frames`. One that sets more than that is refused when its video is decoded.
    """
    if frames is not None or fps is not None:
        return SamplingConfig(frames=frames, fps=fps, start_s=start_s, end_s=end_s, decoder=model.decoder)
    factor = {"low": 0.5, "auto": 1.0, "high": 2.0}[detail]
    model = model.bounded()
    return SamplingConfig(
        frames=None if model.frames is None else max(1, round(factor * model.frames)),
        fps=None if model.fps is None else factor * model.fps,
        keyframes=model.keyframes,
        max_frames=min(max_frames, model.max_frames or max_frames),
        near_keyframes=model.near_keyframes,
        start_s=start_s,
        end_s=end_s,
        decoder=model.decoder,
    )
