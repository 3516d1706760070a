"""Configuration, limiters, API keys and uploads."""

import asyncio
import io
from pathlib import Path

import pytest

from serve.api.errors import APIError
from serve.config import Limits, ServerConfig
from serve.runtime.files import FileStore
from serve.security.auth import ANYBODY, ApiKeys
from serve.security.guard import _host_name
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
        limiter = ConcurrencyLimiter(2)
        async with limiter.slot(), limiter.slot():
            with pytest.raises(APIError) as refused:
                async with limiter.slot():
                    pass
            assert refused.value.status == 429 and int(refused.value.headers["Retry-After"]) >= 1
        assert limiter.active == 0
        async with limiter.slot():
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


def test_files_are_private_bounded_and_expire(tmp_path: Path):
    now = [1000.0]
    files = FileStore(tmp_path, Limits(media_bytes=10, files=2, files_bytes=15, file_s=60), lambda: now[0])
    first = files.add("a", io.BytesIO(b"12345678"), "a.mp4", "vision")
    assert files.get("a", first.id).path.read_bytes() == b"12345678" and first.expires_at == 1060
    with pytest.raises(APIError, match="no file"):
        files.get("b", first.id)
    with pytest.raises(APIError) as refused:
        files.add("a", io.BytesIO(b"12345678"), "b.mp4", "vision")  # 7 bytes are left
    assert refused.value.status == 413 and len(list(tmp_path.iterdir())) == 1
    files.add("a", io.BytesIO(b"1"), "b.mp4", "vision")
    with pytest.raises(APIError, match="2 files are stored"):
        files.add("a", io.BytesIO(b"1"), "c.mp4", "vision")
    files.add("b", io.BytesIO(b"1"), "c.mp4", "vision")
    now[0] = 1061
    assert files.owned_by("a") == [] and files.nbytes == 0 and list(tmp_path.iterdir()) == []
