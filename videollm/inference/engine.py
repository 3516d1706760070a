"""Engines turn a fused prompt into a stream of token ids, and may keep what they computed for the next turn."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from videollm.errors import ConfigError
from videollm.inference.runner import KVCache, make_runner
from videollm.models.processor import Prompt
from videollm.models.video_llm import VideoLLM


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """How to choose tokens. temperature 0 is greedy; top_p keeps the smallest set of words with that probability.

    stop: texts that end the answer, and are no part of it. logprobs: how many of the likeliest tokens to report at each
    place, beside the chosen one; None reports none.
    """

    max_new_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"temperature {self.temperature} must be 0 or above and top_p {self.top_p} above 0 and at most 1"
            )
        if "" in self.stop:
            raise ConfigError("a stop text is empty; it would end every answer before its first word")


class Token(NamedTuple):
    """A chosen token; where asked for, the logarithm of its probability before temperature and top_p, and the same of
    the likeliest tokens (id, logprob), best first."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Cache:
    """What an engine keeps between turns of one conversation: the ids whose keys and values it holds, and how many of
    them the last prompt could reuse.

    Valid only for prompts whose visual tokens come from the same segments; a session drops it when they change.
    """

    ids: list[int] = field(default_factory=list)
    past: KVCache | None = None
    reused: int = 0

    def fork(self, length: int) -> "Cache":
        """Another conversation that begins with the same `length` ids."""
        return Cache(self.ids[:length], self.past.fork(length) if self.past else None)

    @property
    def nbytes(self) -> int:
        return self.past.nbytes if self.past else 0


class Engine(Protocol):
    def stream(self, prompt: Prompt, cache: Cache, generation: Generation) -> Generator[Token]:
        """Tokens as they are chosen, without the end-of-turn token. Closing it stops the model."""
        ...


@dataclass(slots=True, eq=False)
class _Running:
    """An answer being made: ids that are to be read, with their embeddings, and logits (V,) once they are."""

    cache: Cache
    ids: list[int]
    embeds: torch.Tensor
    logits: torch.Tensor | None = None


class LocalEngine:
    """The language model in this process, for one thread.

    Streams that are consumed in turn, a token of each, are computed together: whoever first needs a token has the model
    read for all that have given away their last one. A stream joins after its own prompt, and leaves when it ends or is
    closed.
    """

    def __init__(self, llm: VideoLLM, stop_ids: set[int], on_batch: Callable[[int], None] = lambda size: None):
        """on_batch: told before each pass through the model how many conversations it is for."""
        self.llm, self.on_batch = llm, on_batch
        self.runner = make_runner(llm.language_model)
        self.stop_ids = stop_ids
        self._running: list[_Running] = []

    @torch.inference_mode()
    def stream(self, prompt: Prompt, cache: Cache, generation: Generation) -> Generator[Token]:
        """Reads only the part of the prompt that differs from what the cache holds."""
        kept = min(shared_prefix(cache.ids, prompt.ids), len(prompt) - 1)
        if cache.past is None:
            kept, cache.past = 0, self.runner.begin()
        cache.past.crop(kept)
        cache.ids, cache.reused = prompt.ids[:kept], kept
        generator = None
        if generation.seed is not None:
            generator = torch.Generator(self.llm.device).manual_seed(generation.seed)
        own = _Running(cache, prompt.ids[kept:], self._embed(prompt, kept))
        self._read([own])
        self._running.append(own)
        try:
            for _ in range(generation.max_new_tokens):
                if own.logits is None:
                    self._read([running for running in self._running if running.logits is None])
                logits = own.logits
                assert logits is not None
                chosen = choose(logits, generation, generator)
                if chosen in self.stop_ids:
                    return
                own.ids, own.embeds, own.logits = [chosen], self._words([chosen]), None
                yield Token(chosen) if generation.logprobs is None else scored(chosen, logits, generation.logprobs)
        finally:
            self._running.remove(own)

    def _read(self, batch: list[_Running]) -> None:
        self.on_batch(len(batch))
        logits = self.runner.forward([(running.embeds, running.cache.past) for running in batch])
        for running, row in zip(batch, logits, strict=True):
            running.cache.ids += running.ids
            running.logits = row

    def _embed(self, prompt: Prompt, kept: int) -> torch.Tensor:
        """Embeddings (L,H) of the prompt after its first `kept` tokens; the temporal module runs only if they have
        any visual one."""
        if all(i >= 0 for i in prompt.ids[kept:]):
            return self._words(prompt.ids[kept:])
        ids, visual = torch.tensor(prompt.ids, device=self.llm.device), prompt.visual()
        return self.llm.embed_prompt(ids[None], visual.to(self.llm.device) if visual else None)[0, kept:]

    def _words(self, ids: list[int]) -> torch.Tensor:
        return self.llm.get_input_embeddings()(torch.tensor(ids, device=self.llm.device))


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading items are equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def scored(chosen: int, logits: torch.Tensor, most: int) -> Token:
    """The chosen token with its log probability from logits (V,), and those of the `most` likeliest."""
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(most)
    return Token(chosen, float(logprobs[chosen]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))


def choose(logits: torch.Tensor, generation: Generation, generator: torch.Generator | None) -> int:
    """One token id from logits (V,)."""
    if not torch.isfinite(logits).any():
        raise FloatingPointError("the language model gave no finite logit; its weights or its precision are broken")
    if generation.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits.float() / generation.temperature).softmax(-1)
    if generation.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= generation.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))
