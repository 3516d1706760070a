"""Answers that follow a JSON schema or call functions, by llguidance: at each token only fitting ones are chosen from.

Needs the extra `serve`. Shapes: V vocabulary.
"""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from videollm.errors import ConfigError
from videollm.models.tool_format import ToolFormat

ANY_OBJECT = {"type": "object"}
# JSON as chat templates write it.
WRITTEN = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


class GrammarMatcher:
    """The state of one answer."""

    def __init__(self, grammar: "Grammar"):
        assert grammar.tokenizer is not None  # only a grammar for an engine with its own has none
        self._matcher = LLMatcher(grammar.tokenizer, grammar.compiled)

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns logits (V,) in which tokens that the grammar does not allow here are -inf."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8).bool()
        allowed = allowed[: len(logits)].to(logits.device)
        masked = torch.full_like(logits, -torch.inf)
        masked[: len(allowed)][allowed] = logits[: len(allowed)][allowed]
        return masked

    def take(self, token: int) -> None:
        """Tells the grammar which token was chosen."""
        self._matcher.consume_token(token)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must look like.

    Attributes:
        schema: The JSON schema, which engines with a grammar of their own are given. None for calls of functions.
        compiled: The grammar of llguidance.
        tokenizer: The tokenizer of the language model, as llguidance knows it. None if only its server has it.
        allows_text: Whether an answer may be any text, which is still of use where it is cut off.
    """

    schema: dict[str, Any] | None
    compiled: str = ""
    tokenizer: LLTokenizer | None = None
    allows_text: bool = False

    def start(self) -> GrammarMatcher:
        return GrammarMatcher(self)


def json_grammar(tokenizer: Any, stop_ids: Iterable[int], schema: dict[str, Any]) -> Grammar:
    """Returns the grammar of a JSON schema for a tokenizer of transformers. An answer may end with any of `stop_ids`.

    Raises ConfigError with the reason if the schema is wrong, or says what llguidance does not support.
    """
    # With free white space, a small model may write spaces until its answer is cut off.
    compiled = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_flexible": False})
    return _checked(tokenizer, stop_ids, schema, compiled)


def call_grammar(
    tokenizer: Any,
    stop_ids: Iterable[int],
    format: ToolFormat,
    functions: Sequence[tuple[str, dict[str, Any]]],
    *,
    required: bool,
    parallel: bool,
    schema: dict[str, Any] | None = None,
) -> Grammar:
    """Returns the grammar of answers that may call functions.

    Args:
        tokenizer, stop_ids: See `json_grammar`.
        format: How the model writes calls.
        functions: The name of each function, and the JSON schema of its arguments.
        required: Whether the answer must be a call. Otherwise it may be text, or text and calls.
        parallel: Whether one answer may have several calls.
        schema: The JSON schema of answers without calls. None allows any text.

    Raises ConfigError for a schema that is wrong or not supported.
    """
    added: dict[str, int] = tokenizer.get_added_vocab()

    def literal(text: str) -> str:
        """Returns a text as the grammar has it: tokens that were added to the vocabulary by their ids."""
        parts = re.split("|".join(f"({re.escape(token)})" for token in added), text) if added else [text]
        return " ".join(
            f"<[{added[part]}]>" if part in added else json.dumps(part, ensure_ascii=False) for part in parts if part
        )

    rules = [
        f"call_{i}: {literal(name + format.middle)} %json {json.dumps({**parameters, **WRITTEN})} {literal(format.end)}"
        for i, (name, parameters) in enumerate(functions)
    ]
    call = f"({' | '.join(f'call_{i}' for i in range(len(rules)))})"
    calls = f"{call} ({literal(format.between + format.begin)} {call})*" if parallel else call
    if required:
        answer = f"{literal(format.begin)} {calls}"
    elif schema is not None:
        answer = f"%json {json.dumps({**schema, **WRITTEN})} | {literal(format.begin)} {calls}"
    else:
        answer = f"TEXT | said {literal(format.begin.removeprefix(format.mark))} {calls}"
        # Where the mark is no token, a lazy rule ends with it, so that only a call can follow.
        lazy = "" if format.mark in added else "[lazy]"
        rules += [f"said{lazy}: TEXT {literal(format.mark)}", r"TEXT: /(.|\n)*/"]
    made = _checked(tokenizer, stop_ids, None, "\n".join([f"start: {answer}", *rules]))
    return replace(made, allows_text=not required and schema is None)


def _checked(tokenizer: Any, stop_ids: Iterable[int], schema: dict[str, Any] | None, compiled: str) -> Grammar:
    known = _tokenizer(tokenizer, tuple(sorted(stop_ids)))
    if problem := LLMatcher.validate_grammar(compiled, known):
        raise ConfigError(f"the schema cannot be followed: {problem}")
    return Grammar(schema, compiled, known)


@functools.lru_cache(maxsize=2)
def _tokenizer(tokenizer: Any, stop_ids: tuple[int, ...]) -> LLTokenizer:
    """Building it takes about a second, so that it is kept."""
    return from_tokenizer(tokenizer, eos_token=list(stop_ids))
