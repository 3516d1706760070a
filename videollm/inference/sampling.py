"""The choice of the next token from the logits of the language model.

Shapes: V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from videollm.errors import ConfigError

if TYPE_CHECKING:
    from videollm.inference.grammar import Grammar

# Below this, dividing logits by the temperature overflows float32, and the most probable token is taken anyway.
MIN_TEMPERATURE = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """How an answer is generated.

    Args:
        max_new_tokens: The largest number of tokens of the answer.
        temperature: What logits are divided by before the softmax. 0 always takes the most probable token (greedy).
        top_p: Sample from the smallest set of tokens whose probabilities sum to at least this (nucleus sampling,
            Holtzman et al. 2020). Above 0 and at most 1.
        seed: The seed of the sampling, which makes it repeatable on one kind of device. None samples anew.
        stop: Texts that end the answer and are not part of it.
        logprobs: The number of most probable tokens to report at each position beside the chosen one. None reports no
            probabilities.
        frequency_penalty, presence_penalty: What a token's logit loses for each time that the answer has it already,
            and once if the answer has it at all.
        logit_bias: Token ids, and what their logits gain.
        grammar: What the answer must look like, or None.

    Raises:
        ConfigError: If a value is out of range.
    """

    max_new_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: "Grammar | None" = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if "" in self.stop:
            raise ConfigError("a stop text is empty, which would end every answer at once; leave it out")


class Token(NamedTuple):
    """A generated token.

    Attributes:
        id: The token id. -1 if a server sent the text instead.
        logprob: The natural logarithm of its probability before temperature and top_p, or None if not requested.
        top: The most probable tokens as (id, logprob), best first, if requested.
        text: The text that a server sent, which may be that of several tokens.
    """

    id: int = -1
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    text: str = ""


def adjusted(logits: torch.Tensor, config: GenerationConfig, said: Sequence[int]) -> torch.Tensor:
    """Returns logits (V,) with the penalties and biases of `config`. said: the token ids of the answer so far."""
    penalised = said and (config.frequency_penalty or config.presence_penalty)
    if not penalised and not config.logit_bias:
        return logits
    logits = logits.float().clone()
    if penalised:
        ids, counts = torch.tensor(said, device=logits.device).unique(return_counts=True)
        logits[ids] -= config.frequency_penalty * counts + config.presence_penalty
    for token, bias in config.logit_bias:
        logits[token] += bias
    return logits


def choose(logits: torch.Tensor, config: GenerationConfig, generator: torch.Generator | None) -> int:
    """Chooses one token id from logits (V,). `generator` must be on the device of the logits.

    Raises FloatingPointError if no logit is finite, because such a model would otherwise answer with token 0 forever.
    """
    if not torch.isfinite(logits).any():
        raise FloatingPointError(
            "the language model computes no finite logit; check its weights, and that its dtype has enough range"
        )
    if config.temperature < MIN_TEMPERATURE:
        return int(logits.argmax())
    probabilities = (logits.float() / config.temperature).softmax(-1)
    if config.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # Keep a token while the probability before it is still below top_p. The first one always stays.
        ordered[1:][ordered.cumsum(0)[:-1] >= config.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def with_logprobs(chosen: int, logits: torch.Tensor, most: int) -> Token:
    """Returns the chosen token with its log probability under logits (V,), and the `most` most probable tokens."""
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(most)
    return Token(chosen, float(logprobs[chosen]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
