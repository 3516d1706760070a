"""What may become a video: data, uploads, addresses, paths. The fetcher is tried on real servers on this machine."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serve.api.errors import APIError
from serve.config import Limits, ServerConfig
from serve.runtime.files import FileStore
from serve.runtime.media import MediaFile, MediaLoader, open_below, request_sampling
from serve.security.fetch import Fetcher, is_public
from tests.serve.conftest import data_url
from videollm.config import SamplingConfig

PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254"),
    *("ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
    *("2002:a00:1::", "::127.0.0.1", "::8.8.8.8", "fec0::1", "64:ff9b:1::808:808", "::ffff:0.0.0.0", "4000::1"),
    *("168.63.129.16", "::ffff:168.63.129.16", "2001:db8::1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_open_internet(address: str):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are(address: str):
    assert is_public(address)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, status, location = "video/mp4", 200, None
        if self.path == "/page":
            kind = "text/html; charset=utf-8"
        elif self.path == "/gone":
            status = 404
        elif self.path == "/loop":
            status, location = 302, "/loop"
        elif self.path.startswith("/to/"):
            status, location = 302, self.path.removeprefix("/to/")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.path == "/slow":
            threading.Event().wait(30)
        if status == 200:
            self.wfile.write(b"x" * (5000 if self.path == "/large" else 100))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Names:
    """A name server under a test's control."""

    def __init__(self, *answers: list[str]):
        self.answers, self.asked = list(answers), []

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def fetched(url: str, names: Names, allowed: Callable[[str], bool] = is_public) -> bytes:
    async def collect() -> bytes:
        fetcher = Fetcher(Limits(media_bytes=1000, fetch_s=2), names.resolve, allowed)
        return b"".join([piece async for piece in fetcher.fetch(url)])

    return asyncio.run(collect())


def anything(_: str) -> bool:
    return True


def test_a_video_is_fetched_through_redirects(port: int):
    names = Names(["127.0.0.1"])
    assert fetched(f"http://videos.example:{port}/a.mp4", names, anything) == b"x" * 100
    assert names.asked == ["videos.example"]
    assert fetched(f"http://videos.example:{port}/to//b.mp4", names, anything) == b"x" * 100


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/page", "text/html, not a video"),
        ("/gone", "answered 404"),
        ("/loop", "redirects more than 3 times"),
        ("/large", "larger than"),
        ("/slow", "did not arrive within 2 s"),
        ("/to/file:///etc/passwd", "only http and https"),
        ("/to/http://[::1", "not a valid address"),
    ],
)
def test_what_is_not_a_video_of_reasonable_size_is_refused(port: int, path: str, reason: str):
    with pytest.raises(APIError, match=reason):
        fetched(f"http://videos.example:{port}{path}", Names(["127.0.0.1"]), anything)


def test_one_private_address_among_public_ones_is_enough_to_refuse(port: int):
    with pytest.raises(APIError, match="not a public address"):
        fetched(f"http://videos.example:{port}/a.mp4", Names(["8.8.8.8", "127.0.0.1"]))
    with pytest.raises(APIError, match="not a public address"):
        fetched(f"http://127.0.0.1:{port}/a.mp4", Names(["127.0.0.1"]))


def test_the_address_that_was_checked_is_the_one_connected_to(port: int):
    """Rebinding: the name is private whenever it is asked again, which it never is."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    assert fetched(f"http://videos.example:{port}/a.mp4", names, lambda a: a == "127.0.0.1") == b"x" * 100
    assert names.asked == ["videos.example"]


def test_a_redirect_to_a_private_address_is_refused(port: int):
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    with pytest.raises(APIError, match="inside is not a public address"):
        fetched(f"http://videos.example:{port}/to/http://inside/latest", names, lambda a: a == "127.0.0.1")
    assert names.asked == ["videos.example", "inside"]


@pytest.fixture
def load_media(tmp_path: Path) -> Callable[..., Awaitable[tuple[MediaFile, bytes]]]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "clip one.mp4").write_bytes(b"inside")
    (tmp_path / "secret.mp4").write_bytes(b"outside")
    (root / "way-out.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "temporary").mkdir()
    config = ServerConfig(media_root=root, limits=Limits(media_bytes=1000))
    made = MediaLoader(config, FileStore(tmp_path, config.limits), tmp_path / "temporary")

    async def opened(url: str) -> tuple[MediaFile, bytes]:
        async with made.open(url, "me") as media:
            return media, media.path.read_bytes()

    return opened


def test_data_is_kept_no_longer_than_needed(load_media: Callable, tmp_path: Path):
    media, data = asyncio.run(load_media(data_url(b"abc")))
    assert data == b"abc" and media.sha == hashlib.sha256(b"abc").hexdigest() and media.source == "data:"
    assert list((tmp_path / "temporary").iterdir()) == []
    with pytest.raises(APIError, match="larger than"):
        asyncio.run(load_media(data_url(b"a" * 2000)))


def test_only_files_below_the_media_root_are_opened(load_media: Callable, tmp_path: Path):
    root = tmp_path / "root"
    _, data = asyncio.run(load_media(f"file://{root}/clip%20one.mp4"))
    assert data == b"inside"
    for outside in (
        f"{tmp_path}/secret.mp4",
        f"{root}/../secret.mp4",
        f"{root}/%2e%2e/secret.mp4",
        f"{root}/way-out.mp4",
        f"{root}/none.mp4",
        f"{root}/a%00b.mp4",
        str(root),
        "/etc/passwd",
        "[::1",
    ):
        with pytest.raises(APIError, match="no such file below"):
            asyncio.run(load_media(f"file://{outside}"))
    with pytest.raises(APIError, match="no such file below"):
        asyncio.run(load_media(f"file://other-host{root}/clip%20one.mp4"))


def test_a_folder_that_is_swapped_for_a_link_is_not_followed(tmp_path: Path):
    root, secret = tmp_path / "root", tmp_path / "secret"
    for folder, data in ((root / "inside", b"inside"), (secret, b"outside")):
        folder.mkdir(parents=True)
        (folder / "clip.mp4").write_bytes(data)
    config = ServerConfig(media_root=root)
    media = MediaLoader(config, FileStore(tmp_path, config.limits), tmp_path)
    url = f"file://{root}/inside/clip.mp4"

    async def swapped_while_open() -> bytes:
        async with media.open(url, "me") as found:
            (root / "inside").rename(root / "away")
            (root / "inside").symlink_to(secret)
            return found.path.read_bytes()

    assert asyncio.run(swapped_while_open()) == b"inside"  # what was checked is what is read
    with pytest.raises(OSError):
        open_below(root, Path("inside/clip.mp4"))  # as if it were swapped after the check
    os.mkfifo(root / "pipe")
    with pytest.raises(FileNotFoundError):
        open_below(root, Path("pipe"))


def test_what_is_sampled():
    def made(model: SamplingConfig, detail: str = "auto", **asked: float | None) -> SamplingConfig:
        return request_sampling(
            model, 100, **{"frames": None, "fps": None, "start_s": None, "end_s": None, **asked}, detail=detail
        )

    two = SamplingConfig(fps=2.0)
    assert made(two) == SamplingConfig(fps=2.0, max_frames=100, near_keyframes=True)
    assert made(two, "low").fps == 1.0 and made(two, "high", start_s=3).fps == 4.0
    assert made(two, frames=7, end_s=5.0) == SamplingConfig(frames=7, end_s=5.0)
    assert made(two, fps=30) == SamplingConfig(fps=30)  # as asked, or refused where it is too many
    assert made(SamplingConfig(frames=9), "low").frames == 4


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1]x/a",
        f"http://{'a' * 64}.example/a",
        "http://\u2100\u2488.example/a",
        "http://a:99999/",
    ],
)
def test_odd_addresses_are_refused_in_words(url: str):
    with pytest.raises(APIError) as refused:
        fetched(url, Names(["127.0.0.1"]))
    assert refused.value.status == 400 and refused.value.code == "invalid_media_url"
