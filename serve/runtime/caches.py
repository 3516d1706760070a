"""Caches between stateless requests: features of videos and KV caches of conversations, each limited in bytes.

Both are kept apart by owner. If they were shared, a fast answer would tell the holder of one key which videos another
key asks about.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from videollm.features.encode import EncodedVideo
from videollm.inference.engine import PromptCache
from videollm.models.processor import shared_prefix


class EncodedVideoCache:
    """A cache of encoded videos. If one is being encoded, further requests for it wait for the result.

    Args:
        max_bytes: The largest number of bytes of tensors to keep. The least recently used videos are dropped first.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._videos: OrderedDict[Hashable, EncodedVideo] = OrderedDict()
        self._pending: dict[Hashable, asyncio.Future[EncodedVideo]] = {}

    async def get(
        self, key: Hashable, encode: Callable[[], Coroutine[Any, Any, EncodedVideo]]
    ) -> tuple[EncodedVideo, bool]:
        """Returns the video, and whether it was in the cache or being encoded. In that case its `ms` are 0."""
        while True:
            if video := self._videos.get(key):
                self._videos.move_to_end(key)
                return video, True
            if key not in self._pending:
                self._pending[key] = own = asyncio.ensure_future(encode())
                try:
                    video = await own
                finally:
                    del self._pending[key]
                self._keep(key, video)
                return video, False
            pending = self._pending[key]
            try:
                return _without_ms(await asyncio.shield(pending)), True
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not pending.cancelled() or (task and task.cancelling()):
                    raise  # this request itself was cancelled
                # The request that was encoding was cancelled. The loop lets the next one that waits encode.

    def _keep(self, key: Hashable, video: EncodedVideo) -> None:
        if _nbytes(video) > self.max_bytes:
            return
        self._videos[key] = _without_ms(video)
        self.nbytes += _nbytes(video)
        while self.nbytes > self.max_bytes:
            _, oldest = self._videos.popitem(last=False)
            self.nbytes -= _nbytes(oldest)


def _without_ms(video: EncodedVideo) -> EncodedVideo:
    """Returns the video with `ms` of 0, because the time belongs only to the receipt of the request that spent it."""
    return replace(video, ms=dict.fromkeys(video.ms, 0.0))


def _nbytes(video: EncodedVideo) -> int:
    return sum(tensor.nbytes for tensor in video.tensors().values())


@dataclass(slots=True, eq=False)
class _PrefixEntry:
    """A KV cache.

    Attributes:
        videos: The videos that its visual tokens stand for, and their owner.
        cache: The KV cache.
        in_use: Whether an answer in work uses it.
    """

    videos: Hashable
    cache: PromptCache
    in_use: bool = True


class PrefixCache:
    """KV caches of conversations, including those of answers in work.

    A prompt takes over the cache of a conversation that it continues. It gets a copy of the shared part if it shares
    only the beginning of a conversation, as another question about the same video does, or if another answer is using
    the cache.

    Args:
        max_bytes: The largest number of bytes to keep. Caches in use are never dropped.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._entries: list[_PrefixEntry] = []  # least recently used first
        self._lock = Lock()  # with vLLM, answers are generated in many threads

    @property
    def nbytes(self) -> int:
        return sum(entry.cache.nbytes for entry in list(self._entries))

    def take(self, videos: Hashable, ids: list[int]) -> PromptCache:
        """Returns the best cache for a prompt, empty if nothing is kept of it. The caller must `put` it back."""
        with self._lock:
            return self._take(videos, ids)

    def _take(self, videos: Hashable, ids: list[int]) -> PromptCache:
        candidates = [entry for entry in self._entries if entry.videos == videos]
        best = max(candidates, key=lambda entry: (shared_prefix(entry.cache.ids, ids), not entry.in_use), default=None)
        length = shared_prefix(best.cache.ids, ids) if best else 0
        if best and 0 < length == len(best.cache.ids) and not best.in_use:
            best.in_use = True
            return best.cache
        own = _PrefixEntry(videos, best.cache.fork(length) if best and length else PromptCache())
        if best and not best.in_use:
            self._move_to_end(best)
        self._entries.append(own)
        return own.cache

    def put(self, cache: PromptCache) -> None:
        """Keeps a cache that `take` gave, in place of the conversations that it continues."""
        with self._lock:
            own = next(entry for entry in self._entries if entry.cache is cache)
            if not cache.ids:  # another server has the keys and values
                self._entries.remove(own)
                return
            own.in_use = False
            self._move_to_end(own)
            idle = [entry for entry in self._entries if entry is not own and not entry.in_use]
            for entry in idle:
                if entry.videos == own.videos and cache.ids[: len(entry.cache.ids)] == entry.cache.ids:
                    self._entries.remove(entry)
            for oldest in [entry for entry in self._entries if not entry.in_use]:
                if self.nbytes > self.max_bytes:
                    self._entries.remove(oldest)

    def _move_to_end(self, entry: _PrefixEntry) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)
