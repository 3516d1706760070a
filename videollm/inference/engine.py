"""Engines turn a prompt with video into a stream of tokens, and may keep their computations for the next turn.

Shapes: L prompt tokens, H hidden width, V vocabulary.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from videollm.inference.runner import KVCache, ModelRunner, make_runner
from videollm.inference.sampling import GenerationConfig, Token, adjusted, choose, with_logprobs
from videollm.models.processor import Prompt
from videollm.models.visual_prompting import VisualPrompting

if TYPE_CHECKING:
    from videollm.models.hub.model import HubLLM


@dataclass(slots=True)
class PromptCache:
    """What an engine keeps between the turns of one conversation.

    All visual tokens have one id, so that a cache is valid only for prompts whose visual tokens come from the same
    segments. A session drops its cache when its segments change.

    Attributes:
        ids: The tokens whose keys and values are in `past`.
        past: The keys and values, or None before the first turn.
        reused: The number of tokens that the last prompt took from the cache.
    """

    ids: list[int] = field(default_factory=list)
    past: KVCache | None = None
    reused: int = 0

    def fork(self, length: int) -> "PromptCache":
        """Returns a copy for another conversation that begins with the same `length` ids."""
        if self.past is None:
            return PromptCache()
        past = self.past.fork(length)
        return PromptCache(self.ids[: past.length], past)

    @property
    def nbytes(self) -> int:
        """The memory of the keys and values in bytes."""
        return self.past.nbytes if self.past else 0


class Engine(Protocol):
    """Generates text from prompts with video."""

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        """Yields tokens as they are chosen, without the end-of-turn token. Closing the generator stops the model."""
        ...


@dataclass(slots=True, eq=False)
class _Stream:
    """An answer that is being generated.

    Attributes:
        cache: The cache of its conversation.
        ids: The tokens that the model has to read next.
        inputs: What it reads for them, see `Prompt.inputs`.
        logits: The logits (V,) of the next token, or None until the model has read these tokens.
    """

    cache: PromptCache
    ids: list[int]
    inputs: Any
    logits: torch.Tensor | None = None


class LocalEngine:
    """Runs the language model in this process, for use by one thread at a time.

    Streams that are consumed in turn, one token of each, are computed together: the first stream that needs a token
    runs the model for all streams whose last token has been consumed. A stream joins the batch after its own prompt,
    and leaves it when it ends or is closed.

    Args:
        llm: The model.
        stop_ids: The tokens that end an answer.
        on_batch: A function that is called before each forward pass with the number of conversations in it.
    """

    def __init__(
        self, llm: "VisualPrompting | HubLLM", stop_ids: set[int], on_batch: Callable[[int], None] = lambda size: None
    ):
        self.llm: Any = llm  # prompts are read by the kind of model that they were made for
        self.on_batch = on_batch
        self.runner = _runner_of(llm)
        self.stop_ids = stop_ids
        self._streams: list[_Stream] = []

    @torch.inference_mode()
    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        """See `Engine.stream`. Only the part of the prompt that differs from the content of `cache` is computed."""
        if cache.past is None:
            cache.ids, cache.past = [], self.runner.begin()
        cache.past.crop(prompt.reusable(cache.ids))
        kept = cache.past.length
        cache.ids, cache.reused = prompt.ids[:kept], kept
        generator = None
        if generation.seed is not None:
            generator = torch.Generator(self.llm.device).manual_seed(generation.seed)
        own = _Stream(cache, prompt.ids[kept:], prompt.inputs(self.llm, kept))
        self._forward([own])
        self._streams.append(own)
        said: list[int] = []
        matcher = generation.grammar.start() if generation.grammar else None
        try:
            for _ in range(generation.max_new_tokens):
                if own.logits is None:
                    self._forward([stream for stream in self._streams if stream.logits is None])
                logits = own.logits
                assert logits is not None
                possible = adjusted(logits, generation, said)
                chosen = choose(matcher.mask(possible) if matcher else possible, generation, generator)
                if chosen in self.stop_ids:
                    return
                said.append(chosen)
                if matcher:
                    matcher.take(chosen)
                own.ids, own.inputs, own.logits = [chosen], self.llm.embed_words([chosen]), None
                if generation.logprobs is None:
                    yield Token(chosen)
                else:
                    yield with_logprobs(chosen, logits, generation.logprobs)
        finally:
            self._streams.remove(own)

    def _forward(self, batch: list[_Stream]) -> None:
        self.on_batch(len(batch))
        logits = self.runner.forward([(stream.inputs, stream.cache.past) for stream in batch])
        for stream, row in zip(batch, logits, strict=True):
            stream.cache.ids += stream.ids
            stream.logits = row


def _runner_of(llm: "VisualPrompting | HubLLM") -> ModelRunner:
    if isinstance(llm, VisualPrompting):
        language_model: Any = llm.language_model
        return make_runner(language_model)
    from videollm.inference.hub import HubRunner  # imports transformers, which takes seconds

    return HubRunner(llm.language_model)
