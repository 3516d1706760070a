"""Prompts for chat models, written as Jinja templates.

A file has an optional head of `name: value` lines, the system message and the user message, separated by lines of
`---`. In the messages, `{{ name }}` is a value that `render` gets, and `{% include "parts/role.jinja" %}` inserts text
that several prompts share.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, Undefined

_SEPARATOR = "\n---\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """A prompt of a system and a user message. A subclass adds a field for each line of the head.

    Args:
        name: The name of the file without its suffix.
        system, user: The templates of the messages.
        sha: 12 hexadecimal digits that change with any word of the prompt. Answers record it as their provenance.
    """

    name: str
    system: Template
    user: Template
    sha: str

    @classmethod
    def load(cls, environment: Environment, file: str) -> Self:
        """Loads a prompt from a file.

        Raises jinja2.TemplateError if the file is missing or malformed, and TypeError if its head has unknown fields.
        """
        assert environment.loader
        text, _, _ = environment.loader.get_source(environment, file)
        *head, system, user = text.split(_SEPARATOR)
        fields = (line.split(":", 1) for part in head for line in part.splitlines())
        return cls(
            name=file.removesuffix(".jinja"),
            system=environment.from_string(system.strip()),
            user=environment.from_string(user.strip()),
            sha=hashlib.sha256(_spelled_out(environment, text).encode()).hexdigest()[:12],
            **{key: value.strip() for key, value in fields},
        )

    def render(self, **values: object) -> list[dict[str, str]]:
        """Returns the messages of a chat completion. Raises jinja2.UndefinedError if a value is missing."""
        messages = {"system": self.system, "user": self.user}
        return [{"role": role, "content": template.render(values)} for role, template in messages.items()]


def prompt_environment(package: str) -> Environment:
    """Returns the environment of the templates in the folder `prompts` of a package."""
    # Prompts are plain text: escaping as for HTML would change quotation marks and ampersands.
    return Environment(loader=PackageLoader(package, "prompts"), undefined=StrictUndefined, autoescape=False)


class _Placeholder(Undefined):
    """A missing value, written as $name."""

    def __str__(self) -> str:
        return f"${self._undefined_name}"


def _spelled_out(environment: Environment, text: str) -> str:
    """Returns the text with its parts inserted and its values as $name.

    The hash is computed from this form, so that it changes with the words only, and not with the syntax of the
    templates.
    """
    return environment.overlay(undefined=_Placeholder).from_string(text).render() + "\n"
