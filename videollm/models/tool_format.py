"""How a language model writes calls of functions, read from its own chat template.

Templates that know tools write a call of the history as the model was trained to write it: a mark, the name, the
arguments as JSON, and an end. The same text is looked for in answers, and is what a grammar makes a model write.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from jinja2 import TemplateError

from videollm.models.processor import SLOT, Processor

NAMES = ("first_function", "second_function")
ARGUMENTS: tuple[dict[str, Any], ...] = ({"first": 1}, {"second": 2})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function. arguments: a JSON text, whose end is missing where the answer was cut off."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The texts around the names and arguments of calls.

    Attributes:
        begin: The text before the name.
        middle: The text between the name and the arguments.
        end: The text after the arguments.
        between: The text between two calls.
        lead: The text between what is said and the first call.
    """

    begin: str
    middle: str
    end: str
    between: str
    lead: str

    @classmethod
    def of(cls, processor: Processor) -> Self | None:
        """Returns the format of a model, or None where its template does not know tools or writes no JSON."""
        try:
            return cls._of(processor)
        except (TemplateError, TypeError):  # of a template that expects other messages
            return None

    @classmethod
    def _of(cls, processor: Processor) -> Self | None:
        tools = [function_tool(name, "", {"type": "object", "properties": {}}) for name in NAMES]
        user, assistant = processor.slot_message("user", 0), processor.slot_message("assistant", 1)
        calls = [
            {"type": "function", "id": f"call0000{i}", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(zip(NAMES, ARGUMENTS, strict=True))
        ]
        prompt = processor.render([user], True, tools)
        reply = processor.render([user, {**assistant, "tool_calls": calls}], False).partition(SLOT.format(1))[2]
        parts = []
        for mark in (NAMES[0], json.dumps(ARGUMENTS[0]), NAMES[1], json.dumps(ARGUMENTS[1])):
            part, _, reply = reply.partition(mark)
            parts.append(part)
        before, middle, after, middle_2 = parts
        begin = before.lstrip()
        end = after.removesuffix(begin).rstrip()
        between = after.removesuffix(begin)[len(end) :]
        made = cls(begin, middle, end, between, before[: len(before) - len(begin)])
        told = all(name in prompt for name in NAMES) and processor.takes(["user", "assistant", "tool", "assistant"])
        regular = begin and middle and end and after.endswith(begin) and middle == middle_2 and reply.startswith(end)
        sample = made.text("", [ToolCall("f", "{}")])
        # A mark that is a special token would be missing from the text of an answer.
        kept = processor.decode(processor.tokenizer(sample, add_special_tokens=False)["input_ids"]) == sample
        return made if told and regular and kept else None

    @property
    def mark(self) -> str:
        """The first word of a call, after which nothing but a call can follow."""
        return self.begin.split(maxsplit=1)[0]

    def text(self, content: str, calls: Sequence[ToolCall]) -> str:
        """Returns the text of a message with calls, as the model would have written it."""
        written = [f"{self.begin}{call.name}{self.middle}{call.arguments}{self.end}" for call in calls]
        return content + (self.lead if content and calls else "") + self.between.join(written)

    def read(self, text: str, *, complete: bool = True) -> tuple[str, list[ToolCall]]:
        """Returns what is said in an answer, and its calls.

        For an answer that is not `complete` yet, this is what is certain: with more text, what is said and the
        arguments of the last call only grow.
        """
        content, *parts = text.split(self.begin)
        calls = []
        for part in parts:
            name, middle, rest = part.partition(self.middle)
            if middle:
                calls.append(ToolCall(name, _json_prefix(rest)))
        if not parts and not complete:
            content = content[: len(content) - _overlap(content, self.begin)]
        return content.rstrip(), calls


def function_tool(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns a function in the form in which chat templates take it. parameters: a JSON schema."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _json_prefix(text: str) -> str:
    """Returns the JSON object at the beginning of a text, or all of the text where the object is incomplete."""
    try:
        return text[: json.JSONDecoder().raw_decode(text)[1]]
    except ValueError:
        return text


def _overlap(text: str, following: str) -> int:
    """Returns how many characters at the end of `text` may be the beginning of `following`."""
    return next((n for n in range(min(len(text), len(following)), 0, -1) if text.endswith(following[:n])), 0)
