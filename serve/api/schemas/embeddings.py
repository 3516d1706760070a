"""Embeddings of texts, videos and pictures."""

from typing import Annotated, Literal

from pydantic import Field

from serve.api.schemas.base import Items, ReplyModel, RequestModel
from serve.api.schemas.media import ContentPart, VideoOptions


class EmbeddingsRequest(RequestModel):
    """A request to embed texts, videos and pictures in the space that search uses. Each item of a list gives one
    vector."""

    model: str
    input: str | Annotated[Items[str | ContentPart], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    video: VideoOptions = VideoOptions()


class EmbeddingItem(ReplyModel):
    """One vector. `embedding` is a list of numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(ReplyModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(ReplyModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: EmbeddingsUsage
