"""The state that all requests to a server share: the model, its engine, caches, files, limits and metrics."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import time
from typing import TYPE_CHECKING

from serve.api.errors import APIError
from serve.config import ServerConfig
from serve.runtime.caches import EncodedVideoCache, PrefixCache
from serve.runtime.decoding import SandboxedDecoder
from serve.runtime.executor import ExecutorEngine, ModelExecutor
from serve.runtime.files import FileStore
from serve.runtime.folder import TemporaryFolder
from serve.runtime.generated import MediaGenerator
from serve.runtime.live import StreamRegistry
from serve.runtime.media import MediaLoader
from serve.runtime.metrics import Metrics
from serve.runtime.responses import ResponseStore
from serve.runtime.sense_loader import SenseLoader
from serve.runtime.senses import VideoSenses
from serve.security.limiters import ConcurrencyLimiter, RateLimiter, share_of
from videollm.inference.chat_completions import ChatCompletionsEngine
from videollm.inference.engine import Engine, LocalEngine
from videollm.inference.engines import make_engine
from videollm.inference.vllm import VLLMEngine
from videollm.model import Model
from videollm.models.tool_format import ToolFormat
from videollm.senses.speech import SpeechSense

if TYPE_CHECKING:
    from videollm.retrieval.index import Index

logger = logging.getLogger(__name__)

CLOSE_S = 10.0  # longest wait for a computation in work when the server ends


class Service:
    """The state of one server.

    `executor` runs the encoder and, unless another server does, the language model. `answer_executor` generates
    answers. It is the same executor, or with another server one with many threads, because these only wait for it.

    Attributes:
        used_senses: The senses that look at the videos of requests and listen to them, see `split_sense`.
        generator: Makes what answers show beside their text.
        tool_format: How the model writes calls of functions, None where it knows none.
        has_ended: False where `close` has not waited for a computation that takes too long.

    Raises SearchIndexError where the configured index does not exist or was made with another encoder, and what
    `MediaGenerator` raises.
    """

    def __init__(self, config: ServerConfig, model: Model):
        self.config, self.model = config, model
        self.index = _open_index(config.index, model)
        self.tool_format = ToolFormat.of(model.processor) if config.engine == "local" else None
        self.started_at = int(time())
        self.has_ended = True
        self._temporary = TemporaryFolder()
        self.folder = self._temporary.path
        (self.folder / "files").mkdir()
        (self.folder / "media").mkdir()
        self.generator = MediaGenerator(config, model, self.folder / "generated")
        limits = config.limits
        self.metrics = Metrics()
        self.concurrency = ConcurrencyLimiter(limits.waiting, share_of(limits.waiting, len(config.api_keys)))
        self.rate_limiter = RateLimiter(limits.requests_per_minute)
        self.files = FileStore(self.folder / "files", limits)
        self.media_loader = MediaLoader(config, self.files, self.folder / "media")
        self.decoder = SandboxedDecoder(self.folder, limits, share_of(limits.decoders, len(config.api_keys)))
        self.executor = ModelExecutor(max_running=limits.batch)
        self.video_cache = EncodedVideoCache(limits.features_bytes)
        self.prefix_cache = PrefixCache(limits.prefix_bytes)
        self.responses = ResponseStore(limits.responses_bytes)
        self.sense_loader = SenseLoader(config.whisper, model.device)
        self.senses = VideoSenses(self.decoder, self.executor, self.sense_loader.load)
        self.used_senses = model.config.senses if config.senses is None else config.senses
        self.streams = StreamRegistry(share_of(limits.streams, len(config.api_keys)))
        self._local_engine: LocalEngine | None = None
        self._server_engine: VLLMEngine | ChatCompletionsEngine | None = None
        if config.engine == "local":
            self._local_engine = LocalEngine(model.llm, model.processor.stop_ids, self.metrics.batch.observe)
            self.answer_executor = self.executor
        else:
            made = make_engine(model, config.vllm_url)
            assert not isinstance(made, LocalEngine)
            self._server_engine = made
            self.answer_executor = ModelExecutor(limits.waiting, limits.waiting)
        self._register_gauges()

    def _register_gauges(self) -> None:
        """Lets the gauges read their values when Prometheus asks for them."""
        metrics = self.metrics
        metrics.answers.labels("running").set_function(lambda: self.answer_executor.running)
        metrics.answers.labels("waiting").set_function(lambda: self.answer_executor.waiting)
        metrics.active.set_function(lambda: self.concurrency.active)
        metrics.decoder_restarts.set_function(lambda: self.decoder.restarts)
        metrics.watch_streams(self.streams)
        sizes: dict[str, Callable[[], float]] = {
            "features": lambda: self.video_cache.nbytes,
            "prefixes": lambda: self.prefix_cache.nbytes,
            "files": lambda: self.files.nbytes,
            "responses": lambda: self.responses.nbytes,
        }
        for name, size in sizes.items():
            metrics.cache_bytes.labels(name).set_function(size)

    async def close(self) -> None:
        await self.streams.close()
        for executor in {self.executor, self.answer_executor, self.generator.executor}:
            self.has_ended &= await asyncio.to_thread(executor.close, CLOSE_S)
        await self.decoder.close()
        self._temporary.close()

    async def engine_alive(self) -> bool:
        return self._server_engine is None or await asyncio.to_thread(self._server_engine.alive)

    async def speech(self) -> SpeechSense:
        """Returns the speech model, loaded by the first request that needs it. Raises APIError 503."""
        return await self.sense_loader.load("speech")

    def check_model(self, name: str) -> None:
        """Raises APIError 404 if this server does not have the model."""
        if name != self.model.config.name:
            raise APIError(
                404,
                f"no model {name!r}; this server has {self.model.config.name!r}",
                "model_not_found",
                param="model",
            )

    def check_text(self, texts: Iterable[str], param: str) -> None:
        """Raises APIError 400 where the texts of one request are too long together. Reading them takes the model."""
        size, limit = sum(map(len, texts)), self.config.limits.text
        if size > limit:
            raise APIError(400, f"{size} characters of text, the limit is {limit}", "text_too_long", param=param)

    def engine_for(self, owner: str) -> tuple[Engine, Callable[[], None]]:
        """Returns the engine for one request, and a function that interrupts its wait for a token from another
        thread."""
        if self._local_engine:
            return self._local_engine, lambda: None  # a token takes milliseconds, so that its end is awaited
        assert self._server_engine
        own = self._server_engine.of(owner)
        return own, own.close

    def blocking_engine_for(self, owner: str) -> tuple[Engine, Callable[[], None]]:
        """Returns an engine for a thread that is none of the executor's, and what ends its work from another one."""
        engine, interrupt = self.engine_for(owner)
        if not self._local_engine:
            return engine, interrupt
        own = ExecutorEngine(engine, self.executor)
        return own, own.stopped.set


def _open_index(uri: str | None, model: Model) -> "Index | None":
    if uri is None:
        return None
    from videollm.retrieval.index import Index  # needs the extra `index`

    index = Index.open(uri, model.encoder)
    _ = index.encoder  # checks that it is the encoder the index was made with
    return index
