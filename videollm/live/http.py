"""Bodies of http and https addresses as files that FFmpeg reads.

FFmpeg opens a playlist's segments through this module too, so that what is checked of an address holds for every
address that a playlist or a redirect names: only http and https, and with `public_only` only public ones. A name is
resolved once, and the connection goes to the address that was checked.
"""

import http.client
import socket
import ssl
from base64 import b64encode
from urllib.parse import unquote, urljoin, urlsplit

from videollm.live.addresses import is_public

MAX_REDIRECTS = 3


class HTTPBody:
    """The body of an address, read from its beginning to its end.

    Attributes:
        name: The address after redirects.
        content_type: Its media type, without parameters.

    Raises OSError where the address is not allowed, or does not answer with status 200.
    """

    def __init__(self, url: str, timeout_s: float, public_only: bool):
        for _ in range(1 + MAX_REDIRECTS):
            self._connection = connect(url, timeout_s, public_only)
            parts = urlsplit(url)
            target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            self._connection.request("GET", target, headers=headers_of(url))
            self._response = self._connection.getresponse()
            location = self._response.getheader("Location")
            if not 300 <= self._response.status < 400 or location is None:
                break
            self.close()
            url = urljoin(url, location)
        if self._response.status != 200:
            self.close()
            raise OSError(f"its server answered {self._response.status} {self._response.reason}")
        self.name = url
        self.content_type = (self._response.getheader("Content-Type") or "").partition(";")[0].strip().lower()

    def read(self, size: int) -> bytes:
        """Returns up to `size` bytes as soon as there are any, and none at the end."""
        return self._response.read1(size)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


def connect(url: str, timeout_s: float, public_only: bool) -> http.client.HTTPConnection:
    """Connects to the host of an http or https address. Raises OSError, also where the address is not allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OSError("only http and https addresses are opened")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    if public_only and not all(is_public(str(address[0])) for *_, address in found):
        raise OSError(f"{parts.hostname} is not a public address")
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s)
    connection.sock = socket.create_connection((str(found[0][4][0]), port), timeout_s)
    if parts.scheme == "https":
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=parts.hostname)
    return connection


def headers_of(url: str) -> dict[str, str]:
    """Returns the headers of every request to an address, with the login that it has."""
    parts = urlsplit(url)
    headers = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": "videollm",
        "Accept": "*/*",
        "Connection": "close",
    }
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    return headers
