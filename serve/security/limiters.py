"""Limits of how many requests a server takes at a time, and of how many one key sends per minute."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from serve.api.errors import APIError
from serve.security.auth import account_of

LONGEST_RETRY_S = 60
LATEST_SHARE = 0.2  # weight of the latest request in the running mean of durations


def share_of(total: int, keys: int) -> int:
    """Returns how many of the server's places one key may have: all if there is no other key, else half of them."""
    return total if keys <= 1 else max(1, total // 2)


class ConcurrencyLimiter:
    """Admits up to `max_requests` requests at a time, and up to `share` of one account. Refuses further ones at
    once."""

    def __init__(self, max_requests: int, share: int):
        self.max_requests, self.share = max_requests, share
        self._active: Counter[str] = Counter()  # requests of each account
        self._mean_s = 1.0  # exponential moving average of a request's duration

    @property
    def active(self) -> int:
        return self._active.total()

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Counts the request for as long as the context lasts. Raises APIError 429 with a time to retry after."""
        account = account_of(owner)
        if self.active >= self.max_requests:
            raise self._busy(f"{self.active} requests are waiting, and this server takes no more", "server_busy")
        if self._active[account] >= self.share:
            raise self._busy(f"{self.share} requests of this key are waiting, and it may have no more", "key_busy")
        self._active[account] += 1
        started = monotonic()
        try:
            yield
        finally:
            self._active[account] -= 1
            self._mean_s += LATEST_SHARE * (monotonic() - started - self._mean_s)

    def _busy(self, reason: str, code: str) -> APIError:
        # One of the requests in work can be expected to end after the mean duration.
        wait_s = min(LONGEST_RETRY_S, math.ceil(self._mean_s))
        message = f"{reason}; try again in {wait_s} s"
        return APIError(429, message, code, kind="rate_limit_error", retry_after_s=wait_s)


class RateLimiter:
    """A leaky bucket for each key, which has room for `per_minute` requests and drains steadily. None sets no limit."""

    def __init__(self, per_minute: int | None):
        self.per_minute = per_minute
        self._levels: dict[str, tuple[float, float]] = {}  # owner -> level of its bucket, and when it was that

    def take(self, owner: str) -> None:
        """Counts a request of the key. Raises APIError 429 if its bucket is full."""
        if self.per_minute is None:
            return
        now = asyncio.get_running_loop().time()
        level, then = self._levels.get(owner, (0.0, now))
        level = max(0.0, level - (now - then) * self.per_minute / 60)
        if level + 1 > self.per_minute:
            wait_s = math.ceil((level + 1 - self.per_minute) * 60 / self.per_minute)
            raise APIError(
                429,
                f"this key may send {self.per_minute} requests a minute; try again in {wait_s} s",
                "rate_limit_exceeded",
                kind="rate_limit_error",
                retry_after_s=wait_s,
            )
        self._levels[owner] = level + 1, now
