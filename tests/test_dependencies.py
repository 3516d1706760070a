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
    "videollm": ("decord", "eval", "index", "mcp", "ocr", "ray", "serve"),
    "train": ("train",),
    "data_gen": ("data", "ray"),
    "serve": ("serve",),
    "tests": ("data", "dev", "eval", "index", "mcp", "ray", "serve", "train"),
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


@pytest.mark.parametrize("package", EXTRAS)
def test_every_import_is_declared(package: str):
    known, distributions = declared(*EXTRAS[package]), metadata.packages_distributions()
    missing = {
        name: file
        for name, file in imported(package).items()
        if not {canonical(d) for d in distributions.get(name, [name])} & known
    }
    assert missing == {}
