"""Answers questions about the videos of a chat request."""

from collections.abc import AsyncGenerator, Generator, Hashable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, fields
from time import perf_counter

from serve.api.errors import APIError, api_errors
from serve.api.schemas.chat import ChatMessage, ChatReceipt, ChatRequest
from serve.api.schemas.media import FilePart, ImagePart, TextPart, VideoPart, url_of
from serve.config import Limits
from serve.runtime.progress import OnProgress, silent
from serve.runtime.service import Service
from serve.runtime.videos import RequestVideo, load_video
from videollm.chat.answer import Answer, GenerationReceipt
from videollm.chat.turn import Piece, PromptVideo, fit_to_context, generate_answer
from videollm.cli.shapes import EvidenceJSON
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message, Prompt

SEEDS = 2**63  # torch takes seeds below this number


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A checked chat request with its videos loaded. `before` has the number of the message that each video is
    placed before."""

    request: ChatRequest
    owner: str
    messages: list[Message]
    videos: list[RequestVideo]
    before: list[int]


async def prepare_chat(
    service: Service, request: ChatRequest, owner: str, progress: OnProgress = silent
) -> PreparedChat:
    """Checks the request and loads its videos, of which `progress` is told (see `load_video`). Raises APIError."""
    service.check_model(request.model)
    _check_counts(request, service.config.limits)
    messages, parts = [], []
    for number, message in enumerate(request.messages):
        messages.append(Message("system" if message.role == "developer" else message.role, _text(message)))
        for place, part in _media_parts(message):
            if message.role != "user":
                raise _invalid("only a user's message may contain a video", f"messages.{number}")
            parts.append((number, f"messages.{number}.content.{place}", part))
    service.check_text((message.content for message in messages), "messages")
    roles = [message.role for message in messages]
    if roles[-1] != "user" or "system" in roles[1:]:
        raise _invalid("the last message must be the user's, and only the first may be a system message", "messages")
    if len(parts) > service.config.limits.videos:
        raise _invalid(
            f"the messages have {len(parts)} videos; the limit is {service.config.limits.videos}", "messages"
        )
    videos = [
        await load_video(
            service,
            url_of(part),
            owner,
            request.video,
            param=param,
            image=isinstance(part, ImagePart),
            observed=True,
            progress=progress,
        )
        for _, param, part in parts
    ]
    return PreparedChat(request, owner, messages, videos, [number for number, _, _ in parts])


def _check_counts(request: ChatRequest, limits: Limits) -> None:
    if request.n > limits.answers:
        raise _invalid(f"n is {request.n}; the limit is {limits.answers}", "n")
    if len(request.messages) > limits.turns:
        raise _invalid(f"the request has {len(request.messages)} messages; the limit is {limits.turns}", "messages")


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _media_parts(message: ChatMessage) -> list[tuple[int, VideoPart | ImagePart | FilePart]]:
    """Returns the videos and pictures of a message, with their positions in its content."""
    if isinstance(message.content, str):
        return []
    return [(place, part) for place, part in enumerate(message.content) if not isinstance(part, TextPart)]


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
    max_new_tokens = request.max_completion_tokens or request.max_tokens or model.config.prompt.max_new_tokens
    prompt = fit_to_context(model, chat.messages, prompt_videos, max_new_tokens)
    # Segments may have been merged to fit the context: the same video then has other visual tokens.
    counts = (len(video.segments) for video in prompt_videos)
    key = (chat.owner, *((video.key, count) for video, count in zip(chat.videos, counts, strict=True)))
    video_ms = {step: sum(video.video.ms[step] for video in chat.videos) for step in ("decode", "encode")}
    question = chat.messages[-1].content
    for number in range(request.n):
        generation = _generation(request, number, max_new_tokens)
        started = perf_counter()
        with _prefix(service, key, prompt) as cache:
            for item in generate_answer(
                model, engine, prompt, question, prompt_videos, cache, generation, video_ms, submitted
            ):
                if isinstance(item, Answer):
                    _count(service, item, perf_counter() - started)
                yield number, item
        # The first answer's receipt has the time for the videos and in the queue; the others spent none.
        video_ms, submitted = {"decode": 0.0, "encode": 0.0}, perf_counter()


def _generation(request: ChatRequest, number: int, max_new_tokens: int) -> GenerationConfig:
    """Answers to one request differ in their seed, which for the first is the request's own."""
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=None if request.seed is None else (request.seed + number) % SEEDS,
        stop=request.stops,
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
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


def evidence_json(answer: Answer) -> list[EvidenceJSON]:
    return [EvidenceJSON.of(evidence) for evidence in answer.evidence]
