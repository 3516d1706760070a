"""Fetches videos from other servers, where the operator allows it, and never from this machine or its network.

This prevents server-side request forgery. A host name is resolved once, all of its addresses must be public, and the
connection goes to an address that was checked. A name that resolves to a public address first and to a private one
later (DNS rebinding) thus gains nothing. Each redirect is checked in the same way.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from serve.api.errors import APIError
from serve.config import Limits
from videollm.live.addresses import is_public

MAX_REDIRECTS = 3
MEDIA_TYPES = ("video/", "image/", "application/octet-stream", "binary/octet-stream", "application/mp4")

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Returns every address of a host name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """A network backend for httpcore that connects to checked addresses only."""

    def __init__(self, resolve: Resolve, allowed: Callable[[str], bool]):
        self._resolve, self._allowed = resolve, allowed
        self._inner: Any = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except OSError as error:
            raise _refusal(f"{host} cannot be found") from error
        if not addresses or not all(map(self._allowed, addresses)):
            raise _refusal(f"{host} is not a public address")
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        raise _refusal("only http and https are fetched")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Fetcher:
    """Fetches media within the server's limits.

    Args:
        resolve, allowed: How names are resolved and which addresses are allowed. Tests, which have no public address to
            fetch from, replace them.
    """

    def __init__(self, limits: Limits, resolve: Resolve = resolve, allowed: Callable[[str], bool] = is_public):
        self.limits = limits
        self._network = CheckedNetwork(resolve, allowed)

    async def fetch(self, url: str) -> AsyncIterator[bytes]:
        """Yields the body in pieces. Raises APIError 400 for a forbidden address or type, or too large or slow."""
        try:
            async with asyncio.timeout(self.limits.fetch_s):
                async for piece in self._fetch(url):
                    yield piece
        except TimeoutError as error:
            raise _refusal(f"it did not arrive within {self.limits.fetch_s:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise _refusal(f"it cannot be fetched ({type(error).__name__})") from error
        except ValueError as error:  # such as http://[::1, whose bracket is not closed
            raise _refusal("it is not a valid address") from error

    async def _fetch(self, url: str) -> AsyncIterator[bytes]:
        context = ssl.create_default_context()
        async with httpcore.AsyncConnectionPool(ssl_context=context, network_backend=self._network) as pool:
            for _ in range(1 + MAX_REDIRECTS):
                parts = urlsplit(url)
                if parts.scheme not in ("http", "https") or not parts.hostname:
                    raise _refusal("only http and https addresses are fetched")
                headers = [("Host", parts.netloc.rpartition("@")[2]), ("User-Agent", "videollm"), ("Accept", "*/*")]
                async with pool.stream("GET", url, headers=headers) as response:
                    fields = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                    if 300 <= response.status < 400 and b"location" in fields:
                        url = urljoin(url, fields[b"location"])
                        continue
                    self._check(response.status, fields)
                    size = 0
                    async for piece in response.aiter_stream():
                        size += len(piece)
                        self._check_size(size)
                        yield piece
                    return
            raise _refusal(f"it redirects more than {MAX_REDIRECTS} times")

    def _check(self, status: int, fields: dict[bytes, str]) -> None:
        if status != 200:
            raise _refusal(f"its server answered {status}")
        kind = fields.get(b"content-type", "application/octet-stream").lower()
        if not kind.startswith(MEDIA_TYPES):
            raise _refusal(f"it is {kind.partition(';')[0]}, not a video or an image")
        if (length := fields.get(b"content-length", "0")).isdigit():
            self._check_size(int(length))

    def _check_size(self, size: int) -> None:
        if size > self.limits.media_bytes:
            raise _refusal(f"it is larger than {self.limits.media_bytes >> 20} MiB")


def _refusal(reason: str) -> APIError:
    return APIError(400, f"the address cannot be used: {reason}", "invalid_media_url")
