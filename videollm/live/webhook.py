"""Alerts sent to a web address, in a thread of its own: a slow or missing receiver delays no stream."""

import http.client
import json
import logging
import queue
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from videollm.errors import ConfigError, reason_of
from videollm.live.http import connect, headers_of

logger = logging.getLogger(__name__)

WAITING = 64  # alerts; further ones are dropped
ATTEMPTS, BACKOFF_S, TIMEOUT_S = 3, 1.0, 10.0


class Webhook:
    """Sends JSON objects by POST, in order.

    One that is not taken with a status of 200 to 299 is sent again, at most `ATTEMPTS` times. Redirects are not
    followed.

    Args:
        url: An http or https address.
        public_only: Whether it must belong to the public internet, as an address in a request to a server.

    Raises:
        ConfigError: If it is no such address.
    """

    def __init__(self, url: str, public_only: bool = False):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(f"webhook {url!r} is not an http or https address")
        self.url, self._public_only = url, public_only
        self.dropped = 0
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, value: dict[str, Any]) -> None:
        try:
            self._queue.put_nowait(value)
        except queue.Full:
            self.dropped += 1

    def close(self, seconds: float = TIMEOUT_S) -> None:
        """Waits for what was sent, but no longer than `seconds`."""
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (value := self._queue.get()) is not None:
            for attempt in range(ATTEMPTS):
                problem = self._post(json.dumps(value).encode())
                if problem is None:
                    break
                logger.warning("webhook %s: %s", urlsplit(self.url).hostname, problem)
                time.sleep(BACKOFF_S * 2**attempt)

    def _post(self, body: bytes) -> str | None:
        """Returns why the receiver has not taken it, None if it has."""
        try:
            connection = connect(self.url, TIMEOUT_S, self._public_only)
            target = urlsplit(self.url)._replace(scheme="", netloc="", fragment="").geturl() or "/"
            connection.request("POST", target, body, headers_of(self.url) | {"Content-Type": "application/json"})
            status = connection.getresponse().status
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            return reason_of(error)
        return None if 200 <= status < 300 else f"it answered {status}"
