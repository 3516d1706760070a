"""The routes of the HTTP API: each turns a request into a call of the runtime."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPBearer

from serve.api.bodies import BoundedJSONRoute
from serve.api.errors import APIError
from serve.api.forms import announced_bytes, receive_file
from serve.api.response_writer import ResponseWriter
from serve.api.schemas.audio import (
    SpeechFormat,
    Transcription,
    TranscriptionForm,
    TranslationForm,
    VerboseTranscription,
)
from serve.api.schemas.chat import ChatCompletion, ChatRequest
from serve.api.schemas.embeddings import EmbeddingsReply, EmbeddingsRequest
from serve.api.schemas.responses import ResponseDeleted, ResponseObject, ResponsesRequest
from serve.api.schemas.server import ErrorReply, FileDeleted, FileList, FileReply, HealthReply, ModelList, ModelReply
from serve.api.schemas.videos import (
    CaptionReply,
    CaptionRequest,
    SearchReply,
    SearchRequest,
    SummarizeRequest,
    SummaryReply,
)
from serve.api.streams import AnswerStream, ChatCompletionWriter
from serve.runtime.chat import prepare_chat, stream_answers
from serve.runtime.files import StoredFile
from serve.runtime.service import Service
from serve.runtime.speech import Transcript, transcribe, transcript_events, transcripts
from serve.runtime.tasks import caption_video, embed, search_index, summarize_video
from serve.security.disconnect import cancel_on_disconnect

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorReply}, "5XX": {"model": ErrorReply}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "one object, or events"}
}

PURPOSES = ("user_data", "vision")
UPLOAD_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"enum": PURPOSES}},
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                }
            }
        },
    }
}

public = APIRouter(responses=ERRORS)
# The guard checks keys. HTTPBearer is here for the OpenAPI document, which says that the routes need one.
keyed = APIRouter(
    prefix="/v1",
    route_class=BoundedJSONRoute,
    responses=ERRORS,
    dependencies=[Depends(HTTPBearer(auto_error=False))],
)


def service_of(request: Request) -> Service:
    return request.app.state.service


def owner_of(request: Request) -> str:
    return request.state.owner


ServiceOf = Annotated[Service, Depends(service_of)]
Owner = Annotated[str, Depends(owner_of)]


@public.get("/health")
async def health(service: ServiceOf) -> HealthReply:
    """Reports which parts of the server work."""
    decoder, engine = service.decoder.alive, await service.engine_alive()
    return HealthReply(
        status="ok" if decoder and engine else "degraded",
        decoder="up" if decoder else "down",
        engine="up" if engine else "down",
        device=str(service.model.device),
        waiting=service.concurrency.active,
    )


@public.get("/ready")
async def ready(service: ServiceOf) -> HealthReply:
    """Answers 200 if requests can be answered, else 503."""
    found = await health(service)
    if found.status != "ok":
        missing = "videos cannot be decoded yet" if found.decoder == "down" else "the language model's server is down"
        raise APIError(503, missing, "not_ready", kind="server_error", retry_after_s=1)
    return found


@public.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceOf) -> Response:
    """Returns the metrics in the format of Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@keyed.get("/models")
async def models(service: ServiceOf) -> ModelList:
    return ModelList(data=[_model_reply(service)])


@keyed.get("/models/{model}")
async def model(model: str, service: ServiceOf) -> ModelReply:
    service.check_model(model)
    return _model_reply(service)


def _model_reply(service: Service) -> ModelReply:
    return ModelReply(id=service.model.config.name, created=service.started_at)


@keyed.post("/chat/completions", response_model=ChatCompletion, responses=EVENTS)
async def chat_completions(body: ChatRequest, request: Request, service: ServiceOf, owner: Owner) -> Any:
    """Answers a question about the videos in the messages. With `stream`, the answer comes in chunks."""
    chat = await cancel_on_disconnect(request.receive, prepare_chat(service, body, owner))
    return await _respond(request, ChatCompletionWriter(service, chat), stream_answers(service, chat), body.stream)


@keyed.post("/responses", response_model=ResponseObject, responses=EVENTS)
async def responses(body: ResponsesRequest, request: Request, service: ServiceOf, owner: Owner) -> Any:
    """Answers in the shape of the Responses API. Later requests can continue the response unless `store` is false."""
    body = service.responses.resolved(owner, body)
    earlier = service.responses.conversation(owner, body.previous_response_id)
    preparing = prepare_chat(service, body.chat(earlier), owner, drops_turns=body.truncation == "auto")
    chat = await cancel_on_disconnect(request.receive, preparing)
    return await _respond(request, ResponseWriter(service, chat, body), stream_answers(service, chat), body.stream)


@keyed.get("/responses/{response_id}")
async def response(response_id: str, service: ServiceOf, owner: Owner) -> ResponseObject:
    return service.responses.get(owner, response_id).reply


@keyed.delete("/responses/{response_id}")
async def delete_response(response_id: str, service: ServiceOf, owner: Owner) -> ResponseDeleted:
    service.responses.delete(owner, response_id)
    return ResponseDeleted(id=response_id)


async def _respond(
    request: Request, writer: ChatCompletionWriter | ResponseWriter, answers: AnswerStream, stream: bool
) -> Any:
    if not stream:
        return await cancel_on_disconnect(request.receive, writer.whole(answers))
    # Most errors show before the first token. Waiting for it lets them have an HTTP status of their own.
    first = await cancel_on_disconnect(request.receive, anext(answers))

    async def events() -> AsyncIterator[str]:
        async with aclosing(answers):
            async for event in writer.events(_prepend(first, answers)):
                yield event

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _prepend(first: Any, rest: AnswerStream) -> AnswerStream:
    yield first
    async for item in rest:
        yield item


SpeechText = Transcription | VerboseTranscription
SPOKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}, "text/event-stream": {"schema": {"type": "string"}}}
    }
}


@keyed.post("/audio/transcriptions", response_model=SpeechText, responses=SPOKEN)
async def transcriptions(
    body: Annotated[TranscriptionForm, Form(media_type="multipart/form-data")],
    request: Request,
    service: ServiceOf,
    owner: Owner,
) -> Any:
    """Writes down what is said in a sound or video file; with `stream`, in events."""
    if not body.stream:
        return _spoken(
            await cancel_on_disconnect(request.receive, transcribe(service, body, owner)), body.response_format
        )
    growing = transcripts(service, body, owner)
    first = await cancel_on_disconnect(request.receive, anext(growing))
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(transcript_events(growing, first), media_type="text/event-stream", headers=headers)


@keyed.post("/audio/translations", response_model=SpeechText, responses=SPOKEN)
async def translations(
    body: Annotated[TranslationForm, Form(media_type="multipart/form-data")],
    request: Request,
    service: ServiceOf,
    owner: Owner,
) -> Any:
    """Writes down in English what is said in any language."""
    return _spoken(await cancel_on_disconnect(request.receive, transcribe(service, body, owner)), body.response_format)


def _spoken(transcript: Transcript, kind: SpeechFormat) -> SpeechText | PlainTextResponse:
    match kind:
        case "json":
            return transcript.plain()
        case "verbose_json":
            return transcript.verbose()
        case "text":
            return PlainTextResponse(f"{transcript.text}\n")
        case "srt" | "vtt":
            return PlainTextResponse(transcript.subtitles(kind))


@keyed.post("/embeddings")
async def embeddings(body: EmbeddingsRequest, request: Request, service: ServiceOf, owner: Owner) -> EmbeddingsReply:
    """Embeds texts, videos and pictures in the space that search uses."""
    return await cancel_on_disconnect(request.receive, embed(service, body, owner))


@keyed.post("/videos/caption")
async def video_caption(body: CaptionRequest, request: Request, service: ServiceOf, owner: Owner) -> CaptionReply:
    """Describes the video, and with `dense` each part of it."""
    return await cancel_on_disconnect(request.receive, caption_video(service, body, owner))


@keyed.post("/videos/summarize")
async def video_summary(body: SummarizeRequest, request: Request, service: ServiceOf, owner: Owner) -> SummaryReply:
    """Chooses the parts that represent the video, and describes each."""
    return await cancel_on_disconnect(request.receive, summarize_video(service, body, owner))


@keyed.post("/videos/search")
async def video_search(body: SearchRequest, request: Request, service: ServiceOf, owner: Owner) -> SearchReply:
    """Finds moments of the indexed videos, best first."""
    return await cancel_on_disconnect(request.receive, search_index(service, body, owner))


@keyed.post("/files", openapi_extra=UPLOAD_FORM)
async def upload(request: Request, service: ServiceOf, owner: Owner) -> FileReply:
    """Keeps a video for later requests of the same key."""
    with service.files.receive(owner, announced_bytes(request)) as target:
        name, fields = await receive_file(request, target, "purpose")
        if fields["purpose"] not in PURPOSES:
            raise APIError(400, f"purpose must be one of {', '.join(PURPOSES)}", "invalid_value", param="purpose")
        return _file_reply(target.keep(name, fields["purpose"]))


@keyed.get("/files")
async def files(service: ServiceOf, owner: Owner) -> FileList:
    return FileList(data=[_file_reply(file) for file in service.files.owned_by(owner)])


@keyed.get("/files/{file_id}")
async def file(file_id: str, service: ServiceOf, owner: Owner) -> FileReply:
    return _file_reply(service.files.get(owner, file_id))


@keyed.get(
    "/files/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def content(file_id: str, service: ServiceOf, owner: Owner) -> FileResponse:
    stored = service.files.get(owner, file_id)
    return FileResponse(stored.path, media_type="application/octet-stream", filename=stored.name)


@keyed.delete("/files/{file_id}")
async def delete(file_id: str, service: ServiceOf, owner: Owner) -> FileDeleted:
    service.files.delete(owner, file_id)
    return FileDeleted(id=file_id)


def _file_reply(stored: StoredFile) -> FileReply:
    return FileReply(
        id=stored.id,
        bytes=stored.size,
        created_at=stored.created_at,
        expires_at=stored.expires_at,
        filename=stored.name,
        purpose=stored.purpose,
    )
