"""Functions that a model may call, the calls of a history, and the form of a reply: as OpenAI's API has them."""

from typing import Annotated, Any, Literal

from pydantic import Field

from serve.api.schemas.base import RequestModel


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


class CalledFunction(RequestModel):
    name: str
    arguments: str


class ToolCall(RequestModel):
    """A call in an assistant's message of the history."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
