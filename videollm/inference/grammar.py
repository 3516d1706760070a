"""Answers that follow a JSON schema, by llguidance: at each token only those that can continue one are chosen from.

Needs the extra `serve`. Shapes: V vocabulary.
"""

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer

from videollm.errors import ConfigError

ANY_OBJECT = {"type": "object"}


class GrammarMatcher:
    """The state of one answer."""

    def __init__(self, grammar: "Grammar"):
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
        schema: The JSON schema, which engines with a grammar of their own are given.
        compiled: The grammar of llguidance.
        tokenizer: The tokenizer of the language model, as llguidance knows it.
    """

    schema: dict[str, Any]
    compiled: str
    tokenizer: LLTokenizer

    def start(self) -> GrammarMatcher:
        return GrammarMatcher(self)


def json_grammar(tokenizer: Any, stop_ids: Iterable[int], schema: dict[str, Any]) -> Grammar:
    """Returns the grammar of a JSON schema for a tokenizer of transformers. An answer may end with any of `stop_ids`.

    Raises ConfigError with the reason if the schema is wrong, or says what llguidance does not support.
    """
    known = _tokenizer(tokenizer, tuple(sorted(stop_ids)))
    # With free white space, a small model may write spaces until its answer is cut off.
    compiled = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_flexible": False})
    if problem := LLMatcher.validate_grammar(compiled, known):
        raise ConfigError(f"the schema cannot be followed: {problem}")
    return Grammar(schema, compiled, known)


@functools.lru_cache(maxsize=2)
def _tokenizer(tokenizer: Any, stop_ids: tuple[int, ...]) -> LLTokenizer:
    """Building it takes about a second, so that it is kept."""
    return from_tokenizer(tokenizer, eos_token=list(stop_ids))
