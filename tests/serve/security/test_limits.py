"""Configuration, limiters, API keys and uploads."""

import asyncio
import resource
import tempfile
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message

from serve.api.errors import APIError, as_api_error
from serve.config import Limits, ServerConfig
from serve.runtime.files import FileStore, StoredFile
from serve.runtime.folder import TemporaryFolder
from serve.security.auth import ANYBODY, ApiKeys
from serve.security.guard import _host_name, check_origin, limit_body
from serve.security.limiters import ConcurrencyLimiter, RateLimiter
from videollm.errors import ConfigError


def test_a_server_that_others_can_reach_needs_keys(tmp_path: Path):
    assert ServerConfig().is_loopback and ServerConfig(host="0.0.0.0", api_keys=("k" * 16,))
    with pytest.raises(ConfigError, match="give --api-key"):
        ServerConfig(host="0.0.0.0")
    with pytest.raises(ConfigError, match="shorter than 16"):
        ServerConfig(api_keys=("short",))
    with pytest.raises(ConfigError, match="not a folder"):
        ServerConfig(media_root=tmp_path / "none")
    with pytest.raises(ConfigError, match="waiting is 0"):
        Limits(waiting=0)


def test_keys_are_recognised_and_named_apart():
    keys = ApiKeys(("first-key-0123456789", "second-key-0123456789"))
    names = {keys.owner(f"Bearer {key}") for key in ("first-key-0123456789", "second-key-0123456789")}
    assert len(names) == 2 and not any("first-key" in name for name in names)
    for wrong in (None, "", "Bearer", "Bearer x", "Basic first-key-0123456789", "Bearer first-key-012345678"):
        with pytest.raises(APIError) as refused:
            keys.owner(wrong)
        assert refused.value.status == 401 and refused.value.headers["WWW-Authenticate"] == "Bearer"
    assert ApiKeys(()).owner(None) == ANYBODY


def test_requests_above_the_limit_are_refused():
    async def scenario() -> None:
        limiter = ConcurrencyLimiter(3, share=2)
        async with limiter.slot("a"), limiter.slot("a/session"):
            with pytest.raises(APIError, match="requests of this key") as refused:
                async with limiter.slot("a"):
                    pass
            assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
            async with limiter.slot("b"):
                assert limiter.active == 3
                with pytest.raises(APIError, match="this server takes no more"):
                    async with limiter.slot("c"):
                        pass
        assert limiter.active == 0
        async with limiter.slot("a"):
            assert limiter.active == 1

    asyncio.run(scenario())


def test_each_key_has_its_own_rate():
    async def scenario() -> None:
        rate = RateLimiter(2)
        for owner in ("a", "a", "b"):
            rate.take(owner)
        with pytest.raises(APIError, match="2 requests a minute") as refused:
            rate.take("a")
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 30
        rate.take("b")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host", "name"), [("localhost:80", "localhost"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("Evil.com", "evil.com")]
)
def test_host_names(host: str, name: str):
    assert _host_name(host) == name


def upload(files: FileStore, owner: str, data: bytes) -> StoredFile:
    with files.receive(owner) as file:
        file.write(data)
        return file.keep("a.mp4", "vision")


def test_files_are_private_bounded_and_expire(tmp_path: Path):
    now = [1000.0]
    files = FileStore(tmp_path, Limits(media_bytes=10, files=2, files_bytes=15, file_s=60), lambda: now[0])
    first = upload(files, "a", b"12345678")
    assert files.get("a", first.id).path.read_bytes() == b"12345678" and first.expires_at == 1060
    with pytest.raises(APIError, match="no file"):
        files.get("b", first.id)
    for size in (8, 11):  # 7 bytes are left, and no file may have more than 10
        with pytest.raises(APIError) as refused:
            upload(files, "a", bytes(size))
        assert refused.value.status == 413 and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(APIError, match="larger than"):
        files.receive("a", announced=8)
    upload(files, "a/session", b"1")  # of the page, with the same key
    with pytest.raises(APIError, match="2 files are stored"):
        upload(files, "a", b"1")
    upload(files, "b", b"1")
    now[0] = 1061
    assert files.owned_by("a") == [] and files.nbytes == 0 and list(tmp_path.iterdir()) == []


def test_a_file_counts_while_it_arrives_and_leaves_nothing_if_it_fails(tmp_path: Path):
    files = FileStore(tmp_path, Limits(files=1, files_bytes=10))
    with files.receive("a") as arriving:
        arriving.write(b"1234")
        assert files.nbytes == 4
        with pytest.raises(APIError, match="1 files are stored"):
            files.receive("a")
    assert files.nbytes == 0 and list(tmp_path.iterdir()) == []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, before[1]))  # as if the disk were full after 6 bytes
    try:
        with pytest.raises(OSError) as full:
            upload(files, "a", b"12345678")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert as_api_error(full.value).status == 503
    assert files.nbytes == 0 and list(tmp_path.iterdir()) == []
    assert upload(files, "a", b"12345678").size == 8


def test_a_folder_that_a_killed_server_left_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    running = TemporaryFolder()
    left = tmp_path / "videollm-serve-left"
    (left / "files").mkdir(parents=True)
    (left / "files/file-1").write_bytes(b"video")
    (tmp_path / "own").mkdir()
    (tmp_path / "videollm-serve-link").symlink_to(tmp_path / "own")
    second = TemporaryFolder()
    assert not left.exists() and running.path.exists() and (tmp_path / "own").exists()
    second.close()
    running.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "videollm-serve-link"]


def test_a_body_must_come_at_a_least_rate():
    clock = [0.0]

    async def one_byte_every_5_s() -> Message:
        clock[0] += 5
        for _ in range(3):  # lets the loop look at its clock
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"1", "more_body": True}

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time
        loop.time = lambda: before() + clock[0]  # pyright: ignore[reportAttributeAccessIssue]
        receive = limit_body(one_byte_every_5_s, 1000, 20)
        with pytest.raises(HTTPException) as refused:
            for _ in range(9):
                await receive()
        assert refused.value.status_code == 408 and 20 <= clock[0] <= 30

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:80"}, None),
        ({"host": "localhost:80", "origin": "http://localhost:80"}, None),
        ({"host": "localhost:80", "origin": "http://localhost:81"}, 403),
        ({"host": "localhost:80", "origin": "null"}, 403),
        ({"host": "localhost:80", "origin": "https://friend.example"}, None),
        ({"host": "localhost:80", "origin": "https://videos.example"}, None),  # a proxy that names us by our own name
        ({"host": "videos.example", "origin": "https://videos.example"}, None),
        ({"host": "other.example"}, 421),
    ],
)
def test_names_and_origins(headers: dict[str, str], status: int | None):
    config = ServerConfig(
        api_keys=("k" * 16,), cors_origins=("https://friend.example",), trusted_hosts=("videos.example",)
    )
    if status is None:
        check_origin("POST", Headers(headers), config)
        return
    with pytest.raises(APIError) as refused:
        check_origin("POST", Headers(headers), config)
    assert refused.value.status == status


def test_a_trusted_host_needs_keys():
    with pytest.raises(ConfigError, match="give --api-key too"):
        ServerConfig(trusted_hosts=("videos.example",))
