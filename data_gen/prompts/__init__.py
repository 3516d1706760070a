"""Prompts for language models: one text file each, with its purpose. `parts/` holds what several of them share.

A file is a head of `name: value` lines, the system message and the user message, divided by lines of `---`. In them
`$name` stands for a part or for a value that `render` gets. The head: purpose; task, that of the samples; shape, what
the reply looks like (`data_gen/generators/replies.py`); needs, what a clip must have (`times`, `speech` or nothing).
"""

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from string import Template
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """sha: 12 hex digits that change with any word of it."""

    name: str
    purpose: str
    task: str
    shape: str
    needs: str
    system: str
    user: str
    sha: str

    def render(self, **values: Any) -> list[dict[str, str]]:
        """The messages for a chat completion. KeyError where the text needs a value that is not given."""
        texts = {"system": self.system, "user": self.user}
        return [{"role": role, "content": Template(text).substitute(values)} for role, text in texts.items()]


@functools.cache
def prompts() -> dict[str, Prompt]:
    """All prompts by name, which is their file's."""
    folder = resources.files("data_gen.prompts")
    parts = {name: text.strip() for name, text in _texts(folder.joinpath("parts")).items()}
    return {name: _parse(name, Template(text).safe_substitute(parts)) for name, text in _texts(folder).items()}


def _texts(folder: Traversable) -> dict[str, str]:
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    return {file.name.removesuffix(".txt"): file.read_text(encoding="utf-8") for file in files}


def _parse(name: str, text: str) -> Prompt:
    head, system, user = text.split("\n---\n")
    values = {key: value.strip() for key, value in (line.split(":", 1) for line in head.splitlines())}
    sha = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Prompt(name=name, **values, system=system.strip(), user=user.strip(), sha=sha)
