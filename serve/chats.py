"""What stays between stateless requests: features of videos, and keys and values of prompts. Bounded in bytes.

Both are kept apart by owner, so that no key learns from another's speed what videos it asks about.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import replace
from typing import Any

from videollm.chat.engine import Cache, shared_prefix
from videollm.models.encode import EncodedVideo


class Features:
    """Encoded videos. Requests for one that is being encoded wait for it instead of doing it again."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._videos: OrderedDict[Hashable, EncodedVideo] = OrderedDict()
        self._making: dict[Hashable, asyncio.Future[EncodedVideo]] = {}

    async def get(
        self, key: Hashable, make: Callable[[], Coroutine[Any, Any, EncodedVideo]]
    ) -> tuple[EncodedVideo, bool]:
        """The video, and whether it was there or being made already; then its `ms` are 0."""
        while True:
            if video := self._videos.get(key):
                self._videos.move_to_end(key)
                return video, True
            if key not in self._making:
                self._making[key] = own = asyncio.ensure_future(make())
                try:
                    made = await own
                finally:
                    del self._making[key]
                self._keep(key, made)
                return made, False
            others = self._making[key]
            try:
                return _paid(await asyncio.shield(others)), True
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not others.cancelled() or (task and task.cancelling()):
                    raise  # otherwise who made it went away: the next one in line makes it

    def _keep(self, key: Hashable, video: EncodedVideo) -> None:
        if _size(video) > self.max_bytes:
            return
        self._videos[key] = _paid(video)
        self.nbytes += _size(video)
        while self.nbytes > self.max_bytes:
            _, oldest = self._videos.popitem(last=False)
            self.nbytes -= _size(oldest)


def _paid(video: EncodedVideo) -> EncodedVideo:
    return replace(video, ms=dict.fromkeys(video.ms, 0.0))


def _size(video: EncodedVideo) -> int:
    return sum(tensor.nbytes for tensor in video.tensors().values())


class Prefixes:
    """Keys and values of earlier conversations. Used from the model's thread only.

    A prompt takes over the conversation that it continues whole. From one that it shares only a beginning with, such as
    another question about the same video, it takes a copy of that beginning.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._caches: OrderedDict[int, tuple[Hashable, Cache]] = OrderedDict()
        self._next = 0

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for _, cache in self._caches.values())

    def take(self, shown: Hashable, ids: list[int]) -> Cache:
        """shown: what stands behind the prompt's visual tokens, and whose it is."""
        lengths = {
            number: shared_prefix(cache.ids, ids) for number, (key, cache) in self._caches.items() if key == shown
        }
        if not lengths or not (length := max(lengths.values())):
            return Cache()
        number = max(lengths, key=lambda n: lengths[n])
        cache = self._caches[number][1]
        if length == len(cache.ids):
            del self._caches[number]
            return cache
        self._caches.move_to_end(number)
        return cache.fork(length)

    def put(self, shown: Hashable, cache: Cache) -> None:
        """Kept in place of the conversations that it continues."""
        for number, (key, other) in list(self._caches.items()):
            if key == shown and cache.ids[: len(other.ids)] == other.ids:
                del self._caches[number]
        self._caches[self._next] = shown, cache
        self._next += 1
        while self._caches and self.nbytes > self.max_bytes:
            self._caches.popitem(last=False)
