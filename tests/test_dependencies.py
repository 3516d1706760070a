"""Every package that the code imports is declared, in the core dependencies or in an extra of the importing part."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OWN = {"videollm", "train", "data_gen", "serve", "tests", "scripts"}
# lmms-eval is installed without its dependencies (see pyproject.toml); _typeshed exists for type checkers only.
UNDECLARED = {"lmms_eval", "_typeshed"}
EXTRAS = {
    "videollm": ("decord", "edit", "eval", "generate", "index", "mcp", "ocr", "ray", "serve"),
    "train": ("train",),
    "data_gen": ("data", "ray"),
    "serve": ("serve",),
    "tests": ("data", "dev", "edit", "eval", "generate", "index", "mcp", "ocr", "ray", "serve", "train"),
}


READS_STRANGERS = {
    *("fastapi", "gradio", "httpcore", "httptools", "jinja2", "pydantic", "pydantic_core", "python-multipart"),
    *("starlette", "uvicorn", "av", "pillow", "pysubs2"),
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The distributions of the core dependencies and of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return {canonical(re.split(r"[^\w.-]", requirement)[0]) for one in lists for requirement in one}


def imported(package: str) -> dict[str, str]:
    """Foreign top-level modules, and a file that imports each."""
    found: dict[str, str] = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {name: file for name, file in found.items() if name not in OWN | UNDECLARED | sys.stdlib_module_names}


def test_floors_are_near_the_versions_that_are_installed():
    """What reads the requests and files of strangers must not be years old."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = numbers("==", (ROOT / "scripts/constraints.txt").read_text().splitlines())
    floors = numbers(">=", [*project["optional-dependencies"]["serve"], *project["dependencies"]])
    for name in map(canonical, READS_STRANGERS):
        assert floors[name] <= pinned[name] and floors[name][0] == pinned[name][0], name


def numbers(operator: str, requirements: list[str]) -> dict[str, list[int]]:
    """The versions in requirements, by name."""
    found = (re.match(rf"([\w-]+){operator}(\d+(?:\.\d+)*)", requirement) for requirement in requirements)
    return {canonical(one[1]): [int(part) for part in one[2].split(".")] for one in found if one}


@pytest.mark.parametrize("package", EXTRAS)
def test_every_import_is_declared(package: str):
    known, distributions = declared(*EXTRAS[package]), metadata.packages_distributions()
    missing = {
        name: file
        for name, file in imported(package).items()
        if not {canonical(d) for d in distributions.get(name, [name])} & known
    }
    assert missing == {}
