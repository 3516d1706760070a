"""Answers questions about the videos of a chat request."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Hashable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, fields
from time import perf_counter
from typing import TYPE_CHECKING, Any

from serve.api.errors import APIError, api_errors
from serve.api.schemas.chat import ChatReceipt, ChatRequest
from serve.api.schemas.media import ImagePart, url_of
from serve.config import Limits
from serve.runtime.conversation import read_conversation
from serve.runtime.generated import GeneratedFile
from serve.runtime.progress import OnProgress, silent
from serve.runtime.service import Service
from serve.runtime.tool_use import answer_grammar, offered_tools
from serve.runtime.videos import RequestVideo, load_video
from videollm.chat.answer import Answer, GenerationReceipt
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.several import Share, divide, joined
from videollm.chat.turn import Piece, fit_to_context, generate_answer, system_text
from videollm.cli.shapes import EvidenceJSON
from videollm.errors import ContextOverflowError
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message, Prompt
from videollm.models.tool_format import ToolCall, ToolFormat

if TYPE_CHECKING:
    from videollm.inference.grammar import Grammar

SEEDS = 2**63  # torch takes seeds below this number


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A checked chat request with its videos loaded. `before` has the number of the message that each video is
    placed before. Without `drops_turns`, a conversation that does not fit the context is refused. `tools` are the
    functions that the model is told of, and `tool_format` is how it calls them."""

    request: ChatRequest
    owner: str
    messages: list[Message]
    videos: list[RequestVideo]
    before: list[int]
    drops_turns: bool = True
    grammar: "Grammar | None" = None
    tools: Sequence[dict[str, Any]] = ()
    tool_format: ToolFormat | None = None

    @property
    def max_new_tokens(self) -> int | None:
        """The most tokens of an answer that the request allows, None where it does not say."""
        return self.request.max_completion_tokens or self.request.max_tokens

    def read(self, text: str, *, complete: bool = True) -> tuple[str, list[ToolCall]]:
        """Returns what is said in an answer, and the functions that it calls. See `ToolFormat.read`."""
        return self.tool_format.read(text, complete=complete) if self.tool_format else (text, [])


async def prepare_chat(
    service: Service, request: ChatRequest, owner: str, progress: OnProgress = silent, *, drops_turns: bool = True
) -> PreparedChat:
    """Checks the request and loads its videos, of which `progress` is told (see `load_video`). Raises APIError."""
    service.check_model(request.model)
    _check_counts(request, service.config.limits)
    _check_supported(request, service.model.processor.tokenizer)
    tools = offered_tools(service, request)
    conversation = read_conversation(request.messages, service.tool_format)
    service.check_text((message.content for message in conversation.messages), "messages")
    media = conversation.media
    if len(media) > service.config.limits.videos:
        raise _invalid(
            f"the messages have {len(media)} videos; the limit is {service.config.limits.videos}", "messages"
        )
    videos = [
        await load_video(
            service,
            url_of(one.part),
            owner,
            request.video,
            param=one.param,
            image=isinstance(one.part, ImagePart),
            observed=True,
            progress=progress,
        )
        for one in media
    ]
    before = [one.before for one in media]
    grammar = await asyncio.to_thread(answer_grammar, service, request, tools)
    format = service.tool_format if tools else None
    return PreparedChat(request, owner, conversation.messages, videos, before, drops_turns, grammar, tools, format)


def _check_counts(request: ChatRequest, limits: Limits) -> None:
    if request.n > limits.answers:
        raise _invalid(f"n is {request.n}; the limit is {limits.answers}", "n")
    if len(request.messages) > limits.turns:
        raise _invalid(f"the request has {len(request.messages)} messages; the limit is {limits.turns}", "messages")


def _check_supported(request: ChatRequest, tokenizer: Any) -> None:
    """Raises APIError for what would change an answer and is not supported. tokenizer: None if only another server
    has it."""
    if tokenizer is None:
        for name in ("logprobs", "logit_bias"):
            if getattr(request, name):
                raise _invalid(f"{name}: the model's server does not tell its tokens; leave {name} out", name)
    elif unknown := [token for token in request.logit_bias if not 0 <= token < len(tokenizer)]:
        raise _invalid(f"logit_bias: token {unknown[0]} is not one of the model's {len(tokenizer)}", "logit_bias")


def _invalid(message: str, param: str) -> APIError:
    return APIError(400, message, "invalid_value", param=param)


async def stream_answers(service: Service, chat: PreparedChat) -> AsyncGenerator[tuple[int, Piece | Answer]]:
    """Yields the pieces of each of the `n` answers and then the Answer, each with the number of the answer.

    Closing this generator stops the model within a token. Raises APIError.
    """
    submitted = perf_counter()
    engine, interrupt = service.engine_for(chat.owner)
    with api_errors():
        items = service.answer_executor.iterate(lambda: _generate(service, chat, engine, submitted), interrupt)
        async with aclosing(items):
            async for item in items:
                yield item


def _generate(
    service: Service, chat: PreparedChat, engine: Engine, submitted: float
) -> Generator[tuple[int, Piece | Answer]]:
    """Generates the answers in a thread of the answer executor. `submitted` is the `perf_counter` time of the
    request."""
    service.metrics.seconds.labels("queue").observe(perf_counter() - submitted)
    request, model = chat.request, service.model
    prompt_videos = [
        PromptVideo(model, video.video, before) for video, before in zip(chat.videos, chat.before, strict=True)
    ]
    # A model with senses is small and was trained on one video at a time.
    whole = [Share("", chat.messages, prompt_videos, 0)]
    shares = divide(chat.messages, prompt_videos) if model.config.senses and not chat.grammar else whole
    steps = ("decode", "encode", *{step: None for video in chat.videos for step in video.video.ms})
    video_ms = {step: sum(video.video.ms.get(step, 0.0) for video in chat.videos) for step in steps}
    for number in range(request.n):
        answers = []
        for share in shares:
            if share.name:
                yield number, Piece(f"\n{share.name}" if answers else share.name, None)
            for item in _ask(service, chat, engine, share, number, video_ms, submitted):
                if isinstance(item, Answer):
                    answers.append((share, item))
                else:
                    yield number, item
            video_ms = dict.fromkeys(video_ms, 0.0)
        yield number, joined(answers)
        # The first answer's receipt has the time for the videos and in the queue; the others spent none.
        submitted = perf_counter()


def _ask(
    service: Service,
    chat: PreparedChat,
    engine: Engine,
    share: Share,
    number: int,
    video_ms: dict[str, float],
    submitted: float,
) -> Generator[Piece | Answer]:
    """Yields the pieces of one of the answers to a question, and then the Answer."""
    model, started = service.model, perf_counter()
    # A JSON text or a required call that is cut off is of no use.
    must_end = chat.grammar is not None and not chat.grammar.allows_text
    longest = model.config.prompt.context if must_end else model.config.prompt.max_new_tokens
    max_new_tokens = chat.max_new_tokens or longest
    prompt = fit_to_context(model, share.messages, share.videos, max_new_tokens, chat.tools)
    if prompt.dropped_turns and not chat.drops_turns:
        raise ContextOverflowError(
            "the conversation does not fit the context; leave out turns, or truncation: disabled"
        )
    # Segments may have been merged to fit the context: the same video then has other visual tokens.
    shown = zip(chat.videos[share.number :], share.videos, strict=False)
    key = (chat.owner, *((video.key, len(placed.segments)) for video, placed in shown))
    question = next(message.content for message in reversed(share.messages) if message.role == "user")
    generation = _generation(chat, number, max_new_tokens)
    with _prefix(service, key, prompt) as cache:
        for item in generate_answer(
            model,
            engine,
            prompt,
            question,
            share.videos,
            cache,
            generation,
            video_ms,
            submitted,
            system=system_text(share.messages),
            made=service.generator.modalities,
        ):
            if isinstance(item, Answer):
                _count(service, item, perf_counter() - started)
            yield item


def _seed(chat: PreparedChat, number: int) -> int | None:
    """Answers to one request differ in their seed, which for the first is the request's own."""
    return None if chat.request.seed is None else (chat.request.seed + number) % SEEDS


def _generation(chat: PreparedChat, number: int, max_new_tokens: int) -> GenerationConfig:
    request = chat.request
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=_seed(chat, number),
        stop=request.stops,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=tuple(request.logit_bias.items()),
        grammar=chat.grammar,
    )


@contextmanager
def _prefix(service: Service, key: Hashable, prompt: Prompt) -> Iterator[PromptCache]:
    """Provides the KV cache for one answer, and keeps it afterwards, also if the answer was stopped."""
    cache = service.prefix_cache.take(key, prompt.ids)
    try:
        yield cache
    finally:
        service.prefix_cache.put(cache)


def _count(service: Service, answer: Answer, seconds: float) -> None:
    receipt, metrics = answer.receipt, service.metrics
    metrics.lookups.labels("prefixes", str(receipt.cached_tokens > 0).lower()).inc()
    metrics.seconds.labels("first_token").observe(receipt.ms["first_token"] / 1000)
    metrics.seconds.labels("generate").observe(seconds)
    for kind in ("prompt", "cached", "completion"):
        metrics.tokens.labels(kind).inc(getattr(receipt, f"{kind}_tokens"))


def make_receipt(chat: PreparedChat, answer: Answer) -> ChatReceipt:
    """Returns the receipt of an answer with the videos and sampling parameters of its request."""
    shared = {field.name: getattr(answer.receipt, field.name) for field in fields(GenerationReceipt)}
    request = chat.request
    return ChatReceipt(
        **shared,
        videos=[video.used for video in chat.videos],
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
    )


async def generated_files(service: Service, chat: PreparedChat, answer: Answer, number: int = 0) -> list[GeneratedFile]:
    """Returns what an answer shows. number: of the answer among those to the request."""
    return await service.generator.files(answer, _seed(chat, number)) if answer.media else []


def evidence_json(answer: Answer) -> list[EvidenceJSON]:
    return [EvidenceJSON.of(evidence) for evidence in answer.evidence]
