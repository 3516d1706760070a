"""What the API does, apart from HTTP: media in, features and prefixes kept, answers made side by side."""

import asyncio
import base64
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, time
from typing import Any

import torch

from serve.api.errors import APIError, as_api_error
from serve.api.schemas import (
    CaptionReply,
    CaptionRequest,
    ChatRequest,
    Embedding,
    EmbeddingsReply,
    EmbeddingsRequest,
    EmbeddingsUsage,
    EvidenceOut,
    ImagePart,
    MomentOut,
    PartOut,
    ReceiptOut,
    SearchReply,
    SearchRequest,
    SeenVideo,
    SummarizeRequest,
    SummaryReply,
    TextPart,
    TimedText,
    VideoOptions,
    url_of,
)
from serve.limits import ConcurrencyLimiter, RateLimiter, ServerConfig
from serve.runtime.caches import Features, Prefixes
from serve.runtime.decoding import Decoders
from serve.runtime.executor import ExecutorEncoder, ExecutorEngine, ModelExecutor, aside
from serve.runtime.files import Files
from serve.runtime.media import Media, MediaLoader, sampling_of
from serve.runtime.metrics import Metrics
from videollm.chat.answer import Answer
from videollm.chat.caption import caption, dense_captions
from videollm.chat.summary import summarize
from videollm.chat.turn import Piece, PromptVideo, fit_to_context, generate_answer
from videollm.checkpoint import Model
from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoLLMError
from videollm.features.encode import EncodedVideo, encode_frames
from videollm.inference.engine import Engine, LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.inference.vllm import VLLMEngine
from videollm.models.processor import Message, Prompt
from videollm.retrieval.queries import embed_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RequestVideo:
    """An encoded video of a request. key says what its features are."""

    key: tuple[str, SamplingConfig]
    video: EncodedVideo
    seen: SeenVideo


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat request with its videos looked at. before: the message that each stands before."""

    request: ChatRequest
    owner: str
    messages: list[Message]
    looks: list[RequestVideo]
    before: list[int]


class Service:
    def __init__(self, config: ServerConfig, model: Model):
        self.config, self.model = config, model
        self.index = _open_index(config.index, model)
        self.started_at = int(time())
        self.folder = Path(tempfile.mkdtemp(prefix="videollm-serve-"))  # readable by this user alone
        (self.folder / "files").mkdir()
        (self.folder / "media").mkdir()
        self.metrics = Metrics()
        self.admission = ConcurrencyLimiter(config.limits.waiting)
        self.rate = RateLimiter(config.limits.requests_per_minute)
        self.files = Files(self.folder / "files", config.limits)
        self.intake = MediaLoader(config, self.files, self.folder / "media")
        self.decoders = Decoders(self.folder, config.limits)
        self.thread = ModelExecutor(most=config.limits.batch)
        self.features = Features(config.limits.features_bytes)
        self.prefixes = Prefixes(config.limits.prefix_bytes)
        metrics = self.metrics
        self.local, self.vllm = None, None
        if config.vllm_url is None:
            self.local = LocalEngine(model.llm, model.processor.stop_ids, metrics.batch.observe)
            self.answering = self.thread
        else:
            self.vllm = VLLMEngine(model, config.vllm_url, os.environ.get("VLLM_API_KEY"))
            self.answering = ModelExecutor(config.limits.waiting, config.limits.waiting)
        metrics.answers.labels("made").set_function(lambda: self.answering.running)
        metrics.answers.labels("waiting").set_function(lambda: self.answering.waiting)
        metrics.inside.set_function(lambda: self.admission.inside)
        metrics.decoder_restarts.set_function(lambda: self.decoders.restarts)
        sizes: dict[str, Callable[[], float]] = {
            "features": lambda: self.features.nbytes,
            "prefixes": lambda: self.prefixes.nbytes,
            "files": lambda: self.files.nbytes,
        }
        for name, size in sizes.items():
            metrics.cache_bytes.labels(name).set_function(size)

    async def close(self) -> None:
        for turns in {self.thread, self.answering}:
            await asyncio.to_thread(turns.close)
        await self.decoders.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def engine_alive(self) -> bool:
        return self.vllm is None or await asyncio.to_thread(self.vllm.alive)

    def check_model(self, name: str) -> None:
        if name != self.model.config.name:
            raise APIError(
                404,
                f"no model {name!r}; this server has {self.model.config.name!r}",
                "model_not_found",
                param="model",
            )

    # --- videos

    async def look(
        self, url: str, owner: str, options: VideoOptions, *, param: str, image: bool = False
    ) -> RequestVideo:
        """Features of a video or picture, decoded and encoded unless they are known. Raises APIError."""
        try:
            sampling = self._sampling(options, image)
            started = perf_counter()
            async with self.intake.open(url, owner) as media:
                self.metrics.seconds.labels("intake").observe(perf_counter() - started)
                key = owner, media.sha, sampling
                video, found = await self.features.get(key, lambda: self._encode(media, sampling))
        except (VideoLLMError, APIError) as error:
            refusal = as_api_error(error, param)
            refusal.param = param
            raise refusal from error
        self.metrics.hits.labels("features", str(found).lower()).inc()
        return RequestVideo((media.sha, sampling), video, _seen(media, video, sampling, options, image))

    def _sampling(self, options: VideoOptions, image: bool) -> SamplingConfig:
        if image:
            return SamplingConfig(frames=1)
        return sampling_of(
            self.model.config.sampling,
            self.config.limits.frames,
            frames=options.frames,
            fps=options.fps,
            start_s=options.start,
            end_s=options.end,
            detail=options.detail,
        )

    async def _encode(self, media: Media, sampling: SamplingConfig) -> EncodedVideo:
        encoder, started = self.model.encoder, perf_counter()
        async with self.decoders.decode(media.path, sampling, encoder.image_size) as decoded:
            decode_ms = round(1000 * (perf_counter() - started), 1)
            by: Any = ExecutorEncoder(encoder, self.thread)
            video = await aside(encode_frames, decoded.info, decoded.pieces, by, sampling)
        video.ms["decode"] = decode_ms
        for step, ms in video.ms.items():
            self.metrics.seconds.labels(step).observe(ms / 1000)
        return video

    # --- chat

    async def chat(self, request: ChatRequest, owner: str) -> Chat:
        """Check the request and look at its videos. Raises APIError."""
        self.check_model(request.model)
        limits = self.config.limits
        if request.n > limits.answers:
            raise APIError(400, f"n is {request.n}, the limit is {limits.answers}", "invalid_value", param="n")
        if len(request.messages) > limits.turns:
            raise APIError(
                400, f"{len(request.messages)} messages, the limit is {limits.turns}", "invalid_value", param="messages"
            )
        messages, parts = [], []
        for number, message in enumerate(request.messages):
            role = "system" if message.role == "developer" else message.role
            content = (
                [TextPart(type="text", text=message.content)] if isinstance(message.content, str) else message.content
            )
            for place, part in enumerate(content):
                if not isinstance(part, TextPart):
                    if role != "user":
                        raise APIError(
                            400, "only a user's message may hold a video", "invalid_value", param=f"messages.{number}"
                        )
                    parts.append((number, f"messages.{number}.content.{place}", part))
            text = "\n".join(part.text for part in content if isinstance(part, TextPart))
            messages.append(Message(role, text))
        roles = [message.role for message in messages]
        if roles[-1] != "user" or "system" in roles[1:]:
            raise APIError(
                400,
                "messages must end with the user's; a system message may only come first",
                "invalid_value",
                param="messages",
            )
        if len(parts) > limits.videos:
            raise APIError(400, f"{len(parts)} videos, the limit is {limits.videos}", "invalid_value", param="messages")
        looks = [
            await self.look(url_of(part), owner, request.video, param=param, image=isinstance(part, ImagePart))
            for _, param, part in parts
        ]
        return Chat(request, owner, messages, looks, [number for number, _, _ in parts])

    async def answers(self, chat: Chat) -> AsyncGenerator[tuple[int, Piece | Answer]]:
        """For each of the n answers its pieces and its end, with its number. Closing this stops the model within a
        token. Raises APIError."""
        submitted = perf_counter()
        engine, interrupt = self._engine(chat.owner)
        items = self.answering.iterate(lambda: self._answers(chat, engine, submitted), interrupt)
        try:
            async with aclosing(items):
                async for item in items:
                    yield item
        except VideoLLMError as error:
            raise as_api_error(error) from error

    def _answers(self, chat: Chat, engine: Engine, submitted: float) -> Generator[tuple[int, Piece | Answer]]:
        """In a thread of `answering`."""
        self.metrics.seconds.labels("queue").observe(perf_counter() - submitted)
        request, model = chat.request, self.model
        shown = [PromptVideo(model, look.video, before) for look, before in zip(chat.looks, chat.before, strict=True)]
        longest = request.max_completion_tokens or request.max_tokens or model.config.prompt.max_new_tokens
        prompt = fit_to_context(model, chat.messages, shown, longest)
        key = (chat.owner, *((look.key, len(s.segments)) for look, s in zip(chat.looks, shown, strict=True)))
        ms = {step: sum(look.video.ms[step] for look in chat.looks) for step in ("decode", "encode")}
        for number in range(request.n):
            generation = GenerationConfig(
                max_new_tokens=longest,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=None if request.seed is None else (request.seed + number) % 2**63,
                stop=request.stops,
                logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            )
            started = perf_counter()
            with self._cached(key, prompt) as cache:
                question = chat.messages[-1].content
                for item in generate_answer(model, engine, prompt, question, shown, cache, generation, ms, submitted):
                    if isinstance(item, Answer):
                        self._count(item, perf_counter() - started)
                    yield number, item
            ms, submitted = {"decode": 0.0, "encode": 0.0}, perf_counter()

    def _engine(self, owner: str) -> tuple[Engine, Callable[[], None]]:
        """For one request, and what ends its wait from another thread: with `local` it waits in line for a token."""
        if self.local:
            return self.local, lambda: None
        assert self.vllm
        own = self.vllm.of(owner)
        return own, own.close

    def _patient(self, owner: str) -> Engine:
        """For threads of others."""
        engine, _ = self._engine(owner)
        return ExecutorEngine(engine, self.thread) if self.local else engine

    @contextmanager
    def _cached(self, key: Hashable, prompt: Prompt) -> Iterator[PromptCache]:
        """For one answer."""
        cache = self.prefixes.take(key, prompt.ids)
        try:
            yield cache
        finally:
            self.prefixes.put(cache)

    def _count(self, answer: Answer, seconds: float) -> None:
        receipt = answer.receipt
        self.metrics.hits.labels("prefixes", str(receipt.cached_tokens > 0).lower()).inc()
        self.metrics.seconds.labels("first_token").observe(receipt.ms["first_token"] / 1000)
        self.metrics.seconds.labels("generate").observe(seconds)
        for kind in ("prompt", "cached", "completion"):
            self.metrics.tokens.labels(kind).inc(getattr(receipt, f"{kind}_tokens"))

    def receipt(self, chat: Chat, answer: Answer) -> ReceiptOut:
        r = answer.receipt
        return ReceiptOut(
            model=r.model,
            config_sha=r.config_sha,
            videos=[look.seen for look in chat.looks],
            segments=r.segments,
            merged_from=r.merged_from,
            visual_tokens=r.visual_tokens,
            prompt_tokens=r.prompt_tokens,
            cached_tokens=r.cached_tokens,
            completion_tokens=r.completion_tokens,
            truncated=r.truncated,
            temperature=chat.request.temperature,
            top_p=chat.request.top_p,
            seed=chat.request.seed,
            ms=r.ms,
        )

    # --- the rest

    async def embed(self, request: EmbeddingsRequest, owner: str) -> EmbeddingsReply:
        self.check_model(request.model)
        items = [request.input] if isinstance(request.input, str) else request.input
        if len(items) > self.config.limits.embeddings:
            raise APIError(
                400,
                f"{len(items)} inputs, the limit is {self.config.limits.embeddings}",
                "invalid_value",
                param="input",
            )
        vectors, tokens = [], 0
        for number, item in enumerate(items):
            if isinstance(item, str | TextPart):
                text = item if isinstance(item, str) else item.text
                vector, count = await self._run(f"input.{number}", self._embed_text, text)
                tokens += count
            else:
                vector = await self._embed_media(item, owner, request.video, f"input.{number}")
            vectors.append(vector)
        return EmbeddingsReply(
            data=[
                Embedding(index=number, embedding=_numbers(vector, request.encoding_format))
                for number, vector in enumerate(vectors)
            ],
            model=request.model,
            usage=EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens),
        )

    def _embed_text(self, text: str) -> tuple[torch.Tensor, int]:
        if not text.strip():
            raise ConfigError("the text is empty")
        return embed_text(text, self.model.encoder), int(self.model.encoder.encode_text([text]).mask.sum())

    async def _embed_media(self, part: Any, owner: str, options: VideoOptions, param: str) -> torch.Tensor:
        look = await self.look(url_of(part), owner, options, param=param, image=isinstance(part, ImagePart))
        return torch.nn.functional.normalize(look.video.features.embed.float().mean(0), dim=0).cpu()

    async def caption(self, request: CaptionRequest, owner: str) -> CaptionReply:
        self.check_model(request.model)
        look = await self.look(request.video.url, owner, request.options, param="video")
        answer = await self._aside(caption, self.model, look.video, self._patient(owner))
        dense = await self._aside(dense_captions, self.model, look.video, self._patient(owner)) if request.dense else []
        return CaptionReply(
            model=request.model,
            text=answer.text,
            captions=[TimedText(start=c.start_s, end=c.end_s, text=c.text) for c in dense],
            video=look.seen,
        )

    async def summarize(self, request: SummarizeRequest, owner: str) -> SummaryReply:
        self.check_model(request.model)
        look = await self.look(request.video.url, owner, request.options, param="video")
        made = await self._aside(summarize, self.model, look.video, request.parts, self._patient(owner))
        parts = [
            PartOut(
                start=p.start_s,
                end=p.end_s,
                text=p.text,
                time=p.time_s,
                share=p.share,
                tags=[(t.word, t.prob) for t in p.tags],
            )
            for p in made.parts
        ]
        return SummaryReply(model=request.model, text=made.text, parts=parts, video=look.seen)

    async def search(self, request: SearchRequest, owner: str) -> SearchReply:
        if self.index is None:
            raise APIError(404, "this server has no index; start it with --index DIR", "no_index")
        from videollm.retrieval.search import search

        query: Any = request.query
        if request.like is not None:
            query = await self._embed_media(request.like, owner, request.options, "like")
        found = await self._run("query", search, self.index, query, request.limit)
        return SearchReply(
            data=[
                MomentOut(
                    video=self._public_name(m.path),
                    start=m.start_s,
                    end=m.end_s,
                    score=m.score,
                    text=m.text,
                    tags=[(t.word, t.prob) for t in m.tags],
                )
                for m in found
            ]
        )

    def _public_name(self, path: str) -> str:
        root = self.config.media_root
        if root is not None and Path(path).is_relative_to(root.resolve()):
            return Path(path).as_uri()
        return Path(path).name

    async def _aside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await aside(function, *arguments)
        except VideoLLMError as error:
            raise as_api_error(error, "video") from error

    async def _run(self, param: str, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await self.thread.run(function, *arguments)
        except VideoLLMError as error:
            raise as_api_error(error, param) from error


def evidence_out(answer: Answer) -> list[EvidenceOut]:
    return [
        EvidenceOut(video=e.video, start=e.start_s, end=e.end_s, score=e.score, tags=list(e.tags))
        for e in answer.evidence
    ]


def _seen(media: Media, video: EncodedVideo, sampling: SamplingConfig, options: VideoOptions, image: bool) -> SeenVideo:
    times = video.times_s.tolist()
    by_detail = not image and options.frames is None and options.fps is None
    return SeenVideo(
        source=media.source,
        duration=video.info.duration_s,
        frames=len(times),
        lost_frames=video.lost,
        fps=sampling.fps,
        start=sampling.start_s or 0.0,
        end=video.end_s,
        detail=options.detail if by_detail else None,
        times=[round(t, 3) for t in times],
    )


def _numbers(vector: torch.Tensor, encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()


def _open_index(uri: str | None, model: Model) -> Any:
    """Raises SearchIndexError where there is none, or it was made with another encoder."""
    if uri is None:
        return None
    from videollm.retrieval.index import Index

    index = Index.open(uri, model.encoder)
    _ = index.encoder
    return index
