"""Videos from other servers, if the operator allows it, and never from this machine or its network.

A name is resolved once; every address it has must be public, and the connection goes to an address that was checked. So
a name that is public when asked first and private when asked again gains nothing. Redirects take the same way.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from serve.api.errors import APIError
from serve.limits import Limits

REDIRECTS = 3
TYPES = ("video/", "image/", "application/octet-stream", "binary/octet-stream", "application/mp4")

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Every address of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, also where an IPv6 address wraps an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64 or ip in _COMPATIBLE:
            wrapped.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(inner is not None and not is_public(str(inner)) for inner in wrapped):
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only."""

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
    """resolve and allowed are open for tests, which have no public address to fetch from."""

    def __init__(self, limits: Limits, resolve: Resolve = resolve, allowed: Callable[[str], bool] = is_public):
        self.limits = limits
        self._network = CheckedNetwork(resolve, allowed)

    async def fetch(self, url: str) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises APIError 400 for a forbidden address, a wrong type, too much or too slow."""
        try:
            async with asyncio.timeout(self.limits.fetch_s):
                async for piece in self._fetch(url):
                    yield piece
        except TimeoutError as error:
            raise _refusal(f"it did not arrive within {self.limits.fetch_s:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise _refusal(f"it cannot be fetched ({type(error).__name__})") from error

    async def _fetch(self, url: str) -> AsyncIterator[bytes]:
        context = ssl.create_default_context()
        async with httpcore.AsyncConnectionPool(ssl_context=context, network_backend=self._network) as pool:
            for _ in range(1 + REDIRECTS):
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
            raise _refusal(f"it redirects more than {REDIRECTS} times")

    def _check(self, status: int, fields: dict[bytes, str]) -> None:
        if status != 200:
            raise _refusal(f"its server answered {status}")
        kind = fields.get(b"content-type", "application/octet-stream").lower()
        if not kind.startswith(TYPES):
            raise _refusal(f"it is {kind.partition(';')[0]}, not a video or an image")
        if (length := fields.get(b"content-length", "0")).isdigit():
            self._check_size(int(length))

    def _check_size(self, size: int) -> None:
        if size > self.limits.media_bytes:
            raise _refusal(f"it is larger than {self.limits.media_bytes >> 20} MiB")


def _refusal(reason: str) -> APIError:
    return APIError(400, f"the address cannot be used: {reason}", "invalid_media_url")
