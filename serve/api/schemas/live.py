"""Streams that the server watches. OpenAI's API has none."""

from typing import Annotated, Literal

from pydantic import Field

from serve.api.schemas.base import ReplyModel, RequestModel

STANDING = 8  # most standing questions of a stream
StreamStatus = Literal["connecting", "connected", "lost", "ended"]


class StreamRequest(RequestModel):
    """A request to watch a stream.

    Attributes:
        source: The name of a camera of this server (`--camera`), or an http(s):// address (HLS, FLV) if the server
            allows remote ones.
        fps: The frames a second that are looked at.
        when: What is to be reported: "a dog appears", "someone says fire", or a question for the language model that
            ends with "?".
        webhook: Where alerts are sent by POST, an http(s):// address, if the server allows remote ones.
        describe: Whether the language model describes each segment.
    """

    source: str
    fps: float = Field(default=1.0, gt=0, le=10)
    when: Annotated[list[str], Field(max_length=STANDING, fail_fast=True)] = Field(default=[])
    webhook: str | None = None
    describe: bool = False


class StreamCounts(ReplyModel):
    """Frames that were looked at, that were dropped because the server was busy, that came damaged or too late; jumps
    of the source's clock, and times that it was opened again."""

    frames: int
    dropped: int
    lost: int
    late: int
    jumps: int
    reconnects: int


class StreamReply(ReplyModel):
    """A stream. lag_s: how old the latest frame was when it had been looked at. bytes: memory of what is remembered."""

    id: str
    object: Literal["stream"] = "stream"
    source: str
    created_at: int
    status: StreamStatus
    reason: str
    fps: float
    when: list[str]
    segments: int
    bytes: int
    lag_s: float
    counts: StreamCounts


class StreamList(ReplyModel):
    object: Literal["list"] = "list"
    data: list[StreamReply]


class StreamDeleted(ReplyModel):
    id: str
    object: Literal["stream"] = "stream"
    deleted: Literal[True] = True
