"""The routes of the HTTP API about streams."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer

from serve.api.bodies import BoundedJSONRoute
from serve.api.errors import APIError
from serve.api.routes import ERRORS, Owner, ServiceOf
from serve.api.schemas.live import StreamDeleted, StreamList, StreamReply, StreamRequest

streams = APIRouter(
    prefix="/v1/streams",
    route_class=BoundedJSONRoute,
    responses=ERRORS,
    dependencies=[Depends(HTTPBearer(auto_error=False))],
)


@streams.post("")
async def watch(body: StreamRequest, service: ServiceOf, owner: Owner) -> StreamReply:
    """Begins to watch a stream. A chat about it has the video stream://ID."""
    return (await service.streams.add(service, owner, body)).reply


@streams.get("")
async def list_streams(service: ServiceOf, owner: Owner) -> StreamList:
    return StreamList(data=[stream.reply for stream in service.streams.owned_by(owner)])


@streams.get("/{stream_id}")
async def get_stream(stream_id: str, service: ServiceOf, owner: Owner) -> StreamReply:
    return service.streams.get(owner, stream_id).reply


@streams.get(
    "/{stream_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    stream_id: str, service: ServiceOf, owner: Owner, last_event_id: Annotated[str, Header()] = "-1"
) -> StreamingResponse:
    """Sends what happens: segments, alerts, connected, lost, ended. `Last-Event-ID` continues after that event."""
    stream = service.streams.get(owner, stream_id)
    try:
        after = int(last_event_id)
    except ValueError as error:
        message = f"Last-Event-ID is {last_event_id!r}; it must be the id of an event"
        raise APIError(400, message, "invalid_value", param="Last-Event-ID") from error
    return StreamingResponse(
        stream.listen(after), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@streams.delete("/{stream_id}")
async def delete_stream(stream_id: str, service: ServiceOf, owner: Owner) -> StreamDeleted:
    await service.streams.delete(owner, stream_id)
    return StreamDeleted(id=stream_id)
