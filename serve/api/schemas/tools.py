"""Functions that a model may call, the calls of a history, and the form of a reply: as OpenAI's API has them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serve.api.schemas.base import ReplyModel, RequestModel


class TextFormat(RequestModel):
    type: Literal["text"]


class JSONObjectFormat(RequestModel):
    type: Literal["json_object"]


class NamedSchema(RequestModel):
    """A JSON schema. `name`, `description` and `strict` have no effect: every answer follows the schema."""

    name: str = ""
    description: str = ""
    json_schema: dict[str, Any] = Field(alias="schema", default_factory=dict)
    strict: bool = False


class JSONSchemaFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JSONObjectFormat | JSONSchemaFormat, Field(discriminator="type")]


class Function(RequestModel):
    """A function. parameters: the JSON schema of its arguments."""

    name: str = Field(min_length=1, max_length=64)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool = False


class FunctionTool(RequestModel):
    type: Literal["function"]
    function: Function


class NamedFunction(RequestModel):
    name: str


class NamedTool(RequestModel):
    type: Literal["function"]
    function: NamedFunction


ToolMode = Literal["none", "auto", "required"]


class SentFunctionCall(RequestModel):
    name: str = Field(min_length=1)
    arguments: str


class SentToolCall(RequestModel):
    """A call in an assistant's message of the history. Some clients keep the `index` that it had in a stream."""

    id: str
    type: Literal["function"] = "function"
    function: SentFunctionCall
    index: int | None = None


class FunctionCall(ReplyModel):
    """arguments: a JSON text, whose end is missing where the answer was cut off."""

    name: str
    arguments: str


class FunctionToolCall(ReplyModel):
    """A call in an answer."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class FunctionCallDelta(ReplyModel):
    name: str | None = None
    arguments: str


class ToolCallDelta(ReplyModel):
    """The part of a call that is new in a stream. Only the first part has `id`, `type` and a name."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionCallDelta
