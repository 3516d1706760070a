"""Embeddings of texts, videos and pictures."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from serve.api.schemas.base import CallerOptions, Items, ReplyModel, TextOr
from serve.api.schemas.media import ContentPart, VideoOptions

TokenIds = Annotated[Items[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _kind(item: Any) -> str:
    if isinstance(item, dict | BaseModel):
        return "part"
    if isinstance(item, list):
        return "tokens"
    return "token" if isinstance(item, int) else "text"


InputItem = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[int, Field(ge=0), Tag("token")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[ContentPart, Tag("part")],
    Discriminator(_kind),
]


class EmbeddingsRequest(CallerOptions):
    """A request to embed texts, videos and pictures in the space that search uses. Each item of a list gives one
    vector.

    Attributes:
        input: A text, a part as in chat completions, or token ids of the language model's tokenizer; or a list of
            these. A list of numbers is one text.
        dimensions: The first so many numbers of each vector, as a unit vector again.
    """

    model: str
    input: TextOr[Annotated[Items[InputItem], Field(min_length=1)]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    video: VideoOptions = VideoOptions()

    @model_validator(mode="after")
    def _check(self) -> "EmbeddingsRequest":
        if isinstance(self.input, list) and len({isinstance(item, int) for item in self.input}) > 1:
            raise ValueError("input mixes token ids with other items; put the ids of each text into a list")
        return self

    @property
    def items(self) -> list[Any]:
        """What each vector is of: a text, a list of token ids, or a part."""
        one = isinstance(self.input, str) or isinstance(self.input[0], int)
        return [self.input] if one else list(self.input)


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
