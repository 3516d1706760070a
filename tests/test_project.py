"""The repository as a whole: importing stays light, optional packages stay optional, the wheel is complete."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import videollm

ROOT = Path(__file__).parents[1]
PACKAGES = ("videollm", "train", "data_gen", "serve")
SHIPPED_WEIGHTS_BYTES = 25_000_000


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, without input and with this environment's programs first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import videollm", ("torch", "numpy", "transformers", "av")),
        (
            "from videollm.cli.main import build_parser; build_parser().format_help()",
            ("torch", "numpy", "transformers", "av"),
        ),
        ("from videollm.config import ModelConfig", ("torch", "transformers", "av")),
        ("from videollm import decode", ("transformers", "open_clip", "timm", "decord")),
    ],
)
def test_light_modules_leave_heavy_ones_alone(statement: str, unwanted: tuple[str, ...]):
    loaded = run(sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')").stdout.split()
    assert not set(loaded) & set(unwanted)


IMPORT_ALL = """
import importlib, pkgutil, sys
package, *absent = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent))  # None there makes Python say that there is no such module
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
    importlib.import_module(module.name)
"""

EXTRAS = {
    "data": ("json_repair", "matplotlib", "py3langid", "rensa"),
    "train": ("bitsandbytes", "deepspeed", "matplotlib", "tensorboard"),
    "serve": ("fastapi", "gradio", "uvicorn"),
    "index": ("lancedb",),
    "ray": ("ray",),
}


@pytest.mark.parametrize(
    ("package", "needs"),
    [("videollm", ("index", "ray")), ("train", ("train",)), ("data_gen", ("data", "ray")), ("serve", ("serve",))],
)
def test_every_module_imports_without_the_extras_it_does_not_need(package: str, needs: tuple[str, ...]):
    present = {name for extra in needs for name in EXTRAS[extra]}
    absent = {name for names in EXTRAS.values() for name in names} - present
    run(sys.executable, "-c", IMPORT_ALL, package, *absent)


@pytest.mark.parametrize("name", videollm.__all__)
def test_public_names_lead_somewhere(name: str):
    assert getattr(videollm, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'videollm' has no attribute 'nothing'"):
        _ = videollm.nothing


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[zipfile.ZipInfo]:
    """What a wheel of the project holds; built from a copy, because building leaves files beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    (file,) = out.iterdir()
    with zipfile.ZipFile(file) as archive:
        return archive.infolist()


def test_the_wheel_holds_every_file_of_the_packages(wheel: list[zipfile.ZipInfo]):
    files = [f for p in PACKAGES for f in (ROOT / p).rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    # A README and an experiment's plots are read in the repository; nothing that is installed needs them.
    needed = {str(f.relative_to(ROOT)) for f in files if f.name != "README.md" and "results" not in f.parts}
    assert needed - {entry.filename for entry in wheel} == set()


def test_the_shipped_weights_stay_small(wheel: list[zipfile.ZipInfo]):
    weights = sum(entry.file_size for entry in wheel if entry.filename.startswith("videollm/weights/"))
    assert weights <= SHIPPED_WEIGHTS_BYTES


def test_every_dependency_has_its_exact_version_in_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    rows = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pinned = {_canonical(row.partition("==")[0]) for row in rows if "==" in row and not row.startswith("#")}
    assert {_canonical(re.split(r"[<>=;\[ ]", r, maxsplit=1)[0]) for r in required} - pinned == {"videollm"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
