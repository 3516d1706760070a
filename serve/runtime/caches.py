"""What stays between stateless requests: features of videos, and keys and values of prompts. Bounded in bytes.

Both are kept apart by owner, so that no key learns from another's speed what videos it asks about.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from videollm.features.encode import EncodedVideo
from videollm.inference.engine import PromptCache, shared_prefix


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


@dataclass(slots=True, eq=False)
class _Kept:
    """shown: what stands behind the prompt's visual tokens, and whose it is. used: by an answer being made."""

    shown: Hashable
    cache: PromptCache
    used: bool = True


class Prefixes:
    """Keys and values of conversations, also of those that go on now.

    A prompt takes over the conversation that it continues whole. From one that it shares only a beginning with, such as
    another question about the same video, or that another answer is using, it takes a copy of that beginning.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._kept: list[_Kept] = []  # the longest unused first
        self._lock = Lock()  # with vLLM answers are made in many threads

    @property
    def nbytes(self) -> int:
        return sum(kept.cache.nbytes for kept in list(self._kept))

    def take(self, shown: Hashable, ids: list[int]) -> PromptCache:
        """What is kept of this prompt, to be used for it until it is `put` back."""
        with self._lock:
            return self._take(shown, ids)

    def _take(self, shown: Hashable, ids: list[int]) -> PromptCache:
        alike = [kept for kept in self._kept if kept.shown == shown]
        best = max(alike, key=lambda kept: (shared_prefix(kept.cache.ids, ids), not kept.used), default=None)
        length = shared_prefix(best.cache.ids, ids) if best else 0
        if best and 0 < length == len(best.cache.ids) and not best.used:
            best.used = True
            return best.cache
        own = _Kept(shown, best.cache.fork(length) if best and length else PromptCache())
        if best and not best.used:
            self._move_last(best)
        self._kept.append(own)
        return own.cache

    def put(self, cache: PromptCache) -> None:
        """Kept in place of the conversations that it continues."""
        with self._lock:
            own = next(kept for kept in self._kept if kept.cache is cache)
            own.used = False
            self._move_last(own)
            for kept in [k for k in self._kept if k is not own and not k.used and k.shown == own.shown]:
                if cache.ids[: len(kept.cache.ids)] == kept.cache.ids:
                    self._kept.remove(kept)
            for oldest in [kept for kept in self._kept if not kept.used]:
                if self.nbytes > self.max_bytes:
                    self._kept.remove(oldest)

    def _move_last(self, kept: _Kept) -> None:
        self._kept.remove(kept)
        self._kept.append(kept)
