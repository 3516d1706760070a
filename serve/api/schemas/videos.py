"""Captions, summaries and searches of videos. OpenAI's API has none of these."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from serve.api.schemas.base import Items, ReplyModel, RequestModel
from serve.api.schemas.media import MediaPart, UsedVideo, VideoOptions, VideoUrl
from videollm.cli.shapes import CaptionJSON, MomentJSON, PartJSON


class CaptionRequest(RequestModel):
    """A request to describe a video. With `dense`, each part is described too, with its times."""

    model: str
    video: VideoUrl
    options: VideoOptions = VideoOptions()
    dense: bool = False


class CaptionReply(ReplyModel):
    object: Literal["video.caption"] = "video.caption"
    model: str
    text: str
    captions: list[CaptionJSON]
    video: UsedVideo


class SummarizeRequest(RequestModel):
    model: str
    video: VideoUrl
    options: VideoOptions = VideoOptions()
    parts: int = Field(default=6, ge=1, le=64)


class SummaryReply(ReplyModel):
    object: Literal["video.summary"] = "video.summary"
    model: str
    text: str
    parts: list[PartJSON]
    video: UsedVideo


class SearchRequest(RequestModel):
    """A search of the index.

    Attributes:
        query: The text to search for.
        like: A video or picture to search for, instead of `query`.
        options: Which frames of `like` to use.
        said: Words that must be said. This filter is enough without `query` and `like`.
        has: Things that must be seen, such as "person" or "person>=2". This filter is enough without `query` and
            `like`.
        limit: The largest number of moments to return.
    """

    query: str | None = None
    like: MediaPart | None = None
    options: VideoOptions = VideoOptions()
    said: str | None = None
    has: Items[str] = Field(default=[])
    limit: int = Field(default=10, ge=1, le=100)

    @model_validator(mode="after")
    def _check(self) -> "SearchRequest":
        asked = (self.query is not None) + (self.like is not None)
        if asked > 1 or not (asked or self.said or self.has):
            raise ValueError("give query, a text, or like, a video or picture, or said or has alone")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMoment(MomentJSON):
    """A moment of a search. `video` is a file:// address below the server's media root, or else the name of the
    file."""

    object: Literal["video.moment"] = "video.moment"


class SearchReply(ReplyModel):
    object: Literal["list"] = "list"
    data: list[FoundMoment]
