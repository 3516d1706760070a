import multiprocessing
import os
import resource
import time
from pathlib import Path

import pytest
import torch

from videollm.config import SamplingConfig
from videollm.features.cache import FeatureCache, cache_key

META = {"lost": 2, "info": {"path": "a.mp4", "fps": 29.97}, "names": ["a", "b"]}


def some_tensors(seed: int = 0, size: int = 100) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "tokens": torch.rand(size, 4, generator=random).bfloat16(),
        "times_s": torch.arange(size).double() / 3,
        "none": torch.zeros(0, 3),
    }


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_what_is_put_comes_back(tmp_path):
    cache = FeatureCache(tmp_path / "made" / "here", max_bytes=1 << 20)
    assert cache.get("key") is None
    cache.put("key", some_tensors(), META)
    entry = cache.get("key")
    assert entry is not None and equal(entry.tensors, some_tensors()) and entry.meta == META
    cache.put("key", some_tensors(1), {})
    entry = FeatureCache(cache.root).get("key")  # as another process sees it
    assert entry is not None and equal(entry.tensors, some_tensors(1)) and entry.meta == {}


def test_a_slice_and_a_tensor_with_gradient_are_stored_by_value(tmp_path):
    cache = FeatureCache(tmp_path)
    weights = torch.rand(8, 6, requires_grad=True)
    cache.put("key", {"part": weights[::2].T}, {})
    entry = cache.get("key")
    assert entry is not None and torch.equal(entry.tensors["part"], weights.detach()[::2].T)


def test_the_key_changes_with_all_that_changes_features():
    base = ("sha", "lite", "1", SamplingConfig(fps=2), 224)
    others = [
        ("sha2", *base[1:]),
        ("sha", "clip", *base[2:]),
        ("sha", "lite", "2", *base[3:]),
        (*base[:3], SamplingConfig(fps=2, start_s=1.0), 224),
        (*base[:3], SamplingConfig(fps=2, decoder="decord"), 224),
        (*base[:4], None),
    ]
    assert cache_key(*base) == cache_key("sha", "lite", "1", SamplingConfig(fps=2), 224)
    assert len({cache_key(*base), *(cache_key(*other) for other in others)}) == 7


def test_caches_made_before_rules_and_decoders_keep_their_keys():
    """The key that the first version gave."""
    key = cache_key("sha", "lite", "1", SamplingConfig(fps=2), 224)
    assert key == "b4a79a7325d90574f3f54b7da728ceee33b873d3ba721d9b16dfbddddefc4533"


@pytest.mark.parametrize("at", [0, 4, 20, 300, -1])
def test_a_changed_byte_is_noticed_and_the_entry_rebuilt(at, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put("key", some_tensors(), META)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert cache.get("key") is None and not path.exists()
    cache.put("key", some_tensors(), META)
    assert cache.get("key") is not None


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_off_entry_is_absent(keep, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put("key", some_tensors(), META)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.get("key") is None and not path.exists()


def test_those_not_used_for_longest_make_room(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=1 << 20)
    for number in range(3):
        cache.put(str(number), some_tensors(number), {})
        os.utime(tmp_path / f"{number}.safetensors", (number, number))
    cache.get("0")  # used just now
    size = (tmp_path / "0.safetensors").stat().st_size
    FeatureCache(tmp_path, max_bytes=3 * size).put("3", some_tensors(3), {})
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["0", "2", "3"]


def test_an_entry_larger_than_the_cache_is_not_stored_and_evicts_nothing(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=4000)
    cache.put("small", some_tensors(size=20), {})
    cache.put("large", some_tensors(size=1000), {})
    assert cache.get("small") is not None and cache.get("large") is None


def test_what_a_dead_process_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path):
    dead, live = tmp_path / "dead.tmp", tmp_path / "live.tmp"
    dead.touch()
    live.touch()
    os.utime(dead, (time.time() - 7200,) * 2)
    FeatureCache(tmp_path).put("key", some_tensors(), {})
    assert not dead.exists() and live.exists()


def _write_and_read(root: Path, seed: int, rounds: int) -> None:
    """Few keys and little room, so that processes replace, evict and read the same entries."""
    size = 2000
    cache = FeatureCache(root, max_bytes=60_000)
    for turn in range(rounds):
        number = (seed + turn) % 5
        entry = cache.get(str(number))
        assert entry is None or (entry.meta == {"number": number} and equal(entry.tensors, some_tensors(number, size)))
        cache.put(str(number), some_tensors(number, size), {"number": number})


def test_processes_share_a_directory(tmp_path):
    spawn = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    workers = [spawn.Process(target=_write_and_read, args=(tmp_path, seed, 60)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 60_000 + 3 * 30_000
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


def test_a_full_or_forbidden_disk_is_a_miss_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A process may not write files beyond a size, as on a full disk. And where the root is a file, nothing can be."""
    cache, tensors = FeatureCache(tmp_path / "full"), {"x": torch.zeros(1 << 20)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        for key in ("a", "b"):
            cache.put(key, tensors, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert cache.get("a") is None and list((tmp_path / "full").iterdir()) == []
    assert [record.message.startswith("features are not kept") for record in caplog.records] == [True]
    cache.put("hit", {"x": torch.zeros(1)}, {})

    def denied(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", denied)  # the superuser, who may run this, is denied nothing
    assert cache.get("hit") is not None
    (tmp_path / "file").touch()
    forbidden = FeatureCache(tmp_path / "file")
    forbidden.put("a", tensors, {})
    assert forbidden.get("a") is None
