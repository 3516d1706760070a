"""The Responses API, which has the same conversations in another shape."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from serve.api.errors import APIError
from serve.api.schemas.base import Items, ReplyModel, RequestModel, TextOr
from serve.api.schemas.chat import CachedTokens, ChatMessage, ChatReceipt, ChatRequest, SamplingOptions
from serve.api.schemas.media import Detail, ShownPart
from serve.api.schemas.tools import (
    Function,
    FunctionTool,
    JSONObjectFormat,
    NamedFunction,
    NamedSchema,
    NamedTool,
    SentFunctionCall,
    SentToolCall,
    TextFormat,
    ToolMode,
)
from videollm.cli.shapes import EvidenceJSON


class InputText(RequestModel):
    type: Literal["input_text", "output_text"]
    text: str
    # Clients send the output of earlier responses back as input, with these fields empty.
    annotations: list[Any] | None = Field(default=None, max_length=0)
    logprobs: list[Any] | None = Field(default=None, max_length=0)


class InputVideo(RequestModel):
    """A video, named by a `video_url` as in chat completions, or by the `file_id` of an upload."""

    type: Literal["input_video"]
    video_url: str | None = None
    file_id: str | None = None


class InputImage(RequestModel):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Detail = "auto"


class InputFile(RequestModel):
    """A file, named by the `file_id` of an upload or by an address, or in the request as a data: URL."""

    type: Literal["input_file"]
    file_id: str | None = None
    file_data: Annotated[str, Field(pattern="^data:")] | None = None
    file_url: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _is_named_once(self) -> Self:
        if sum(name is not None for name in (self.file_id, self.file_data, self.file_url)) != 1:
            raise ValueError("give exactly one of file_id, file_data and file_url")
        return self


InputPart = Annotated[InputText | InputVideo | InputImage | InputFile, Field(discriminator="type")]


class InputMessage(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: TextOr[Items[InputPart]]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: str | None = None


class InputFunctionCall(RequestModel):
    """A call of an earlier response."""

    type: Literal["function_call"]
    call_id: str
    name: str = Field(min_length=1)
    arguments: str
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputFunctionResult(RequestModel):
    """The result of a called function."""

    type: Literal["function_call_output"]
    call_id: str
    output: TextOr[Items[InputText]]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class InputReference(RequestModel):
    """An item of the output of a stored response, named by its id."""

    type: Literal["item_reference"]
    id: str


def _item_kind(item: Any) -> str:
    """A message may come without a type."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else "message"


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputFunctionCall, Tag("function_call")]
    | Annotated[InputFunctionResult, Tag("function_call_output")]
    | Annotated[InputReference, Tag("item_reference")],
    Discriminator(_item_kind),
]


class OfTypeFunction(RequestModel):
    type: Literal["function"]


class ResponseTool(Function, OfTypeFunction):  # the type is checked first
    """A function, whose fields are not in an object of their own here."""


class ResponseNamedTool(NamedFunction, OfTypeFunction):
    """The function that must be called."""


class SchemaFormat(NamedSchema):
    type: Literal["json_schema"]


class TextOptions(RequestModel):
    format: Annotated[TextFormat | JSONObjectFormat | SchemaFormat, Field(discriminator="type")] = TextFormat(
        type="text"
    )
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(SamplingOptions):
    """A request. `reasoning`, `verbosity` and `include` have no effect: the models do not think aloud.

    Attributes:
        previous_response_id: The response that this one continues, which the server has kept unless `store` was false.
        truncation: "disabled" refuses a conversation that is too long, whose oldest turns are otherwise left out.
    """

    model: str
    input: TextOr[Annotated[Items[InputItem], Field(min_length=1)]]
    instructions: str | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    top_logprobs: Literal[0] = 0
    store: bool = True
    text: TextOptions = TextOptions()
    tools: Items[ResponseTool] = Field(default_factory=list)
    tool_choice: ToolMode | ResponseNamedTool = "auto"
    reasoning: dict[str, Any] | None = None
    include: list[str] = Field(default_factory=list, max_length=16)
    truncation: Literal["auto", "disabled"] = "auto"
    background: Literal[False] = False

    def messages(self) -> list[ChatMessage]:
        """Returns `input`, in which no item is a reference any more, as the messages of a chat completion."""
        if isinstance(self.input, str):
            return [ChatMessage(role="user", content=self.input)]
        made: list[ChatMessage] = []
        for item in self.input:
            match item:
                case InputMessage():
                    content = _as_chat_content(item.content)
                    made.append(ChatMessage.model_validate({"role": item.role, "content": content}))
                case InputFunctionResult():
                    content = _as_chat_content(item.output)
                    result = {"role": "tool", "content": content, "tool_call_id": item.call_id}
                    made.append(ChatMessage.model_validate(result))
                case InputFunctionCall():
                    function = SentFunctionCall(name=item.name, arguments=item.arguments)
                    if not made or made[-1].role != "assistant":
                        made.append(ChatMessage(role="assistant"))
                    made[-1].tool_calls.append(SentToolCall(id=item.call_id, function=function))
        return made

    def chat(self, earlier: list[ChatMessage]) -> ChatRequest:
        """Returns the equivalent chat completion. `earlier` are the messages that `previous_response_id` stands for."""
        instructions = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        format = self.text.format
        if isinstance(format, SchemaFormat):
            schema = format.model_dump(by_alias=True, exclude={"type"})
            wanted: dict[str, Any] = {"type": "json_schema", "json_schema": schema}
        else:
            wanted = format.model_dump()
        return ChatRequest(
            model=self.model,
            messages=[*instructions, *earlier, *self.messages()],
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stream=self.stream,
            response_format=wanted,  # pyright: ignore[reportArgumentType] (validated)
            tools=[FunctionTool(type="function", function=_function(tool)) for tool in self.tools],
            tool_choice=_as_chat_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls,
            video=self.video,
        )


def _function(tool: ResponseTool) -> Function:
    return Function.model_validate(tool.model_dump(exclude={"type"}))


def _as_chat_choice(choice: ToolMode | ResponseNamedTool) -> ToolMode | NamedTool:
    if isinstance(choice, ResponseNamedTool):
        return NamedTool(type="function", function=NamedFunction(name=choice.name))
    return choice


def _as_chat_content(content: str | Sequence[InputPart]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    made: list[dict[str, Any]] = []
    for part in content:
        match part:
            case InputText():
                made.append({"type": "text", "text": part.text})
            case InputFile() if part.file_url is None:
                file = {"file_id": part.file_id, "file_data": part.file_data}
                made.append({"type": "file", "file": file})
            case InputFile():
                url = _url_or_file(part.file_url, part.file_id or part.file_data)
                made.append({"type": "video_url", "video_url": {"url": url}})
            case InputVideo():
                made.append({"type": "video_url", "video_url": {"url": _url_or_file(part.video_url, part.file_id)}})
            case InputImage():
                made.append({"type": "image_url", "image_url": {"url": _url_or_file(part.image_url, part.file_id)}})
    return made


def _url_or_file(url: str | None, file_id: str | None) -> str:
    if (url is None) == (file_id is None):
        raise APIError(400, "a part of the input needs either an address or a file_id", "invalid_value", param="input")
    return url or file_id or ""


class OutputText(ReplyModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = Field(default_factory=list)


class OutputMessage(ReplyModel):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class OutputFunctionCall(ReplyModel):
    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class IncompleteDetails(ReplyModel):
    reason: Literal["max_output_tokens"]


class OutputTokens(ReplyModel):
    reasoning_tokens: int = 0


class InputTokens(CachedTokens):
    cache_write_tokens: int = 0


class ResponseUsage(ReplyModel):
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens = OutputTokens()
    total_tokens: int


class ResponseObject(ReplyModel):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete"]
    output: list[OutputMessage | OutputFunctionCall]
    instructions: str | None
    metadata: dict[str, str]
    temperature: float
    top_p: float
    max_output_tokens: int | None
    incomplete_details: IncompleteDetails | None = None
    error: None = None
    parallel_tool_calls: bool
    tool_choice: Any
    tools: list[Any]
    previous_response_id: str | None
    store: bool
    text: dict[str, Any]
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    evidence: list[EvidenceJSON] = Field(default_factory=list)
    media: list[ShownPart] = Field(default_factory=list)
    receipt: ChatReceipt | None = None


class ResponseDeleted(ReplyModel):
    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
