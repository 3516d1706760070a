"""The HTTP API, with the web page beside it: `python -m serve.api.app`, which `videollm serve` starts."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields
from pathlib import Path
from socket import socket
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from transformers.utils.logging import disable_progress_bar

from serve.api import schemas as s
from serve.api.errors import APIError, on_api_error, on_error, on_http, on_validation
from serve.api.streams import Chunks, Items, ResponseEvents
from serve.limits import Limits, ServerConfig
from serve.runtime.files import StoredFile
from serve.runtime.service import Service
from serve.security.guard import Guard, unless_gone
from serve.web.app import Page, close_tabs, create_page
from videollm import __version__
from videollm.checkpoint import load
from videollm.device_arguments import add_device_arguments
from videollm.errors import VideoLLMError

REFUSALS: dict[int | str, dict[str, Any]] = {"4XX": {"model": s.ErrorReply}, "5XX": {"model": s.ErrorReply}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "whole, or as events"}
}

KEEP_ALIVE_S = 30  # longer than clients keep an unused connection: none sends into one that is being closed

router = APIRouter(responses=REFUSALS)


class FileUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: UploadFile
    purpose: str


def service_of(request: Request) -> Service:
    return request.app.state.service


def owner_of(request: Request) -> str:
    return request.state.owner


Used = Annotated[Service, Depends(service_of)]
Owner = Annotated[str, Depends(owner_of)]
keyed = APIRouter(prefix="/v1", responses=REFUSALS, dependencies=[Depends(HTTPBearer(auto_error=False))])


@router.get("/health")
async def health(service: Used) -> s.Health:
    """Whether the process answers, and what of it works."""
    decoder, engine = service.decoders.alive, await service.engine_alive()
    return s.Health(
        status="ok" if decoder and engine else "degraded",
        decoder="up" if decoder else "down",
        engine="up" if engine else "down",
        device=str(service.model.device),
        waiting=service.admission.inside,
    )


@router.get("/ready")
async def ready(service: Used) -> s.Health:
    """200 once requests can be answered, else 503."""
    found = await health(service)
    if found.status != "ok":
        missing = "videos cannot be decoded yet" if found.decoder == "down" else "the language model's server is down"
        raise APIError(503, missing, "not_ready", kind="server_error", retry_after_s=1)
    return found


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Used) -> Response:
    """For Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@keyed.get("/models")
async def models(service: Used) -> s.ModelList:
    return s.ModelList(data=[_model(service)])


@keyed.get("/models/{model}")
async def model(model: str, service: Used) -> s.ModelOut:
    service.check_model(model)
    return _model(service)


def _model(service: Service) -> s.ModelOut:
    return s.ModelOut(id=service.model.config.name, created=service.started_at)


@keyed.post("/chat/completions", response_model=s.ChatCompletion, responses=EVENTS)
async def chat_completions(body: s.ChatRequest, request: Request, service: Used, owner: Owner) -> Any:
    """An answer about the videos in the messages; with `stream`, chunk by chunk."""
    chat = await unless_gone(request.receive, service.chat(body, owner))
    return await _respond(request, Chunks(service, chat), service.answers(chat), body.stream)


@keyed.post("/responses", response_model=s.ResponseObject, responses=EVENTS)
async def responses(body: s.ResponsesRequest, request: Request, service: Used, owner: Owner) -> Any:
    """The same in the shape of the Responses API. Nothing is stored."""
    chat = await unless_gone(request.receive, service.chat(body.chat(), owner))
    return await _respond(request, ResponseEvents(service, chat, body), service.answers(chat), body.stream)


async def _respond(request: Request, made: Chunks | ResponseEvents, items: Items, stream: bool) -> Any:
    if not stream:
        return await unless_gone(request.receive, made.whole(items))
    # What is wrong with the request shows before the first token, while an error can still have a status of its own.
    first = await unless_gone(request.receive, anext(items))

    async def events() -> AsyncIterator[str]:
        async with aclosing(items):
            async for event in made.events(_again(first, items)):
                yield event

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _again(first: Any, rest: Items) -> Items:
    yield first
    async for item in rest:
        yield item


@keyed.post("/embeddings")
async def embeddings(body: s.EmbeddingsRequest, request: Request, service: Used, owner: Owner) -> s.EmbeddingsReply:
    """Vectors of texts, videos and pictures, in the space that search uses."""
    return await unless_gone(request.receive, service.embed(body, owner))


@keyed.post("/videos/caption")
async def caption(body: s.CaptionRequest, request: Request, service: Used, owner: Owner) -> s.CaptionReply:
    return await unless_gone(request.receive, service.caption(body, owner))


@keyed.post("/videos/summarize")
async def summarize(body: s.SummarizeRequest, request: Request, service: Used, owner: Owner) -> s.SummaryReply:
    """The parts that stand for the video, and a text for each."""
    return await unless_gone(request.receive, service.summarize(body, owner))


@keyed.post("/videos/search")
async def search(body: s.SearchRequest, request: Request, service: Used, owner: Owner) -> s.SearchReply:
    """Moments of the indexed videos, best first."""
    return await unless_gone(request.receive, service.search(body, owner))


@keyed.post("/files")
async def upload(
    body: Annotated[FileUpload, Form(media_type="multipart/form-data")], service: Used, owner: Owner
) -> s.FileOut:
    """Keep a video for later requests of the same key."""
    if body.purpose not in PURPOSES:
        raise APIError(400, f"purpose must be one of {', '.join(PURPOSES)}", "invalid_value", param="purpose")
    name = Path(body.file.filename or "video").name[:200]
    stored = await asyncio.to_thread(service.files.add, owner, body.file.file, name, body.purpose)
    return _file(stored)


PURPOSES = ("user_data", "vision")


@keyed.get("/files")
async def files(service: Used, owner: Owner) -> s.FileList:
    return s.FileList(data=[_file(file) for file in service.files.of(owner)])


@keyed.get("/files/{file_id}")
async def file(file_id: str, service: Used, owner: Owner) -> s.FileOut:
    return _file(service.files.get(owner, file_id))


@keyed.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def content(file_id: str, service: Used, owner: Owner) -> FileResponse:
    stored = service.files.get(owner, file_id)
    return FileResponse(stored.path, media_type="application/octet-stream", filename=stored.name)


@keyed.delete("/files/{file_id}")
async def delete(file_id: str, service: Used, owner: Owner) -> s.FileDeleted:
    service.files.delete(owner, file_id)
    return s.FileDeleted(id=file_id)


def _file(stored: StoredFile) -> s.FileOut:
    return s.FileOut(
        id=stored.id,
        bytes=stored.size,
        created_at=stored.created_at,
        expires_at=stored.expires_at,
        filename=stored.name,
        purpose=stored.purpose,
    )


def create_app(service: Service, *, api: bool = True) -> FastAPI:
    """The page, with health and metrics, and with `api` what is below /v1."""
    page = create_page(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(service.decoders.start())
        async with page.router.lifespan_context(page):
            yield
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.close()

    app = FastAPI(title="videollm", version=__version__, lifespan=lifespan)
    app.state.service, app.state.page = service, page
    app.include_router(router)
    if api:
        app.include_router(keyed)
    app.add_exception_handler(APIError, on_api_error)
    app.add_exception_handler(VideoLLMError, on_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_error)
    app.add_middleware(Page, page=page)
    app.add_middleware(Guard, service=service)
    if service.config.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=service.config.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    return app


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="videollm serve",
        description="Serve a model: a web page, and an OpenAI-style HTTP API.",
        allow_abbrev=False,
    )
    top.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    add_device_arguments(top)
    top.add_argument("--host", default="127.0.0.1", help="address to listen at; any but loopback needs --api-key")
    top.add_argument("--port", type=int, default=8000, help="0: any free one, which the log says (default: 8000)")
    top.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help="who may use the server, may be repeated; better in the variable VIDEOLLM_API_KEYS, with commas between",
    )
    top.add_argument("--allow-remote", action="store_true", help="fetch videos from public http(s) addresses")
    top.add_argument("--media-root", type=Path, metavar="DIR", help="let requests name files below this folder")
    top.add_argument("--index", metavar="DIR", help="the search index that /v1/videos/search looks in")
    top.add_argument("--engine", choices=["local", "vllm"], default="local", help="what runs the language model")
    top.add_argument("--vllm-url", metavar="URL", help="the vLLM server that has the exported language model")
    top.add_argument("--cors-origin", action="append", metavar="URL", help="a site whose pages may call the server")
    limits = top.add_argument_group("limits", "the most that requests may take")
    for limit in fields(Limits):
        kind = float if limit.type is float else int
        limits.add_argument(
            f"--{limit.name.replace('_', '-')}",
            type=kind,
            default=limit.default,
            metavar="N",
            help=f"default: {limit.default}",
        )
    return top


def config_of(options: argparse.Namespace) -> ServerConfig:
    """Raises ConfigError."""
    keys = [*(options.api_key or ()), *os.environ.get("VIDEOLLM_API_KEYS", "").split(",")]
    return ServerConfig(
        model=options.model,
        host=options.host,
        port=options.port,
        api_keys=tuple(key.strip() for key in keys if key.strip()),
        allow_remote=options.allow_remote,
        media_root=options.media_root,
        index=options.index,
        engine=options.engine,
        vllm_url=options.vllm_url,
        cors_origins=tuple(options.cors_origin or ()),
        limits=Limits(**{limit.name: getattr(options, limit.name) for limit in fields(Limits)}),
    )


def main(argv: Sequence[str] | None = None, *, api: bool = True) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # What libraries tell their own developers is not for who runs a server.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    disable_progress_bar()
    try:
        options = parser().parse_args(argv)
        config = config_of(options)
        with ThreadPoolExecutor(1) as starting:  # its OpenMP threads end with it, see `aside`
            model = starting.submit(load, config.model, options.device, options.device_map).result()
            service = starting.submit(Service, config, model).result()
    except VideoLLMError as error:
        print(f"videollm serve: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn drains, then raises the signal again: that is a good end
    app = create_app(service, api=api)
    server = _Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=config.limits.drain_s,
        ),
        app.state.page,
    )
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Lets go of the connections that the page's tabs hold open, for which it would wait until its patience ends."""

    def __init__(self, config: uvicorn.Config, page: FastAPI):
        super().__init__(config)
        self.page = page

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        close_tabs(self.page)
        await super().shutdown(sockets)


if __name__ == "__main__":
    sys.exit(main())
