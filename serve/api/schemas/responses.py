"""The Responses API, which has the same conversations in another shape."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from serve.api.errors import APIError
from serve.api.schemas.base import Items, ReplyModel, RequestModel
from serve.api.schemas.chat import CachedTokens, ChatMessage, ChatReceipt, ChatRequest, SamplingOptions
from videollm.cli.shapes import EvidenceJSON

METADATA = 16  # most entries of a response's metadata, as in OpenAI's API


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
    detail: Literal["auto"] = "auto"


class InputFile(RequestModel):
    type: Literal["input_file"]
    file_id: str


InputPart = Annotated[InputText | InputVideo | InputImage | InputFile, Field(discriminator="type")]


class InputMessage(RequestModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Items[InputPart]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None


def _few(values: Any) -> Any:
    """Checks the number of entries before the entries themselves, so that a large object costs as little as a small
    one."""
    if isinstance(values, dict) and len(values) > METADATA:
        raise ValueError(f"{len(values)} entries, the limit is {METADATA}")
    return values


class ResponsesRequest(SamplingOptions):
    """A request. The server stores no responses: `store` must be false and `input` is the whole conversation."""

    model: str
    input: str | Annotated[Items[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    store: Literal[False] = False
    metadata: Annotated[dict[str, str], BeforeValidator(_few)] = Field(default_factory=dict)

    def chat(self) -> ChatRequest:
        """Returns the equivalent chat completion."""
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            messages.append({"role": "user", "content": self.input})
        else:
            messages += [{"role": m.role, "content": _as_chat_content(m.content)} for m in self.input]
        return ChatRequest(
            model=self.model,
            messages=[ChatMessage.model_validate(message) for message in messages],
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stream=self.stream,
            video=self.video,
        )


def _as_chat_content(content: str | list[InputPart]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    made: list[dict[str, Any]] = []
    for part in content:
        match part:
            case InputText():
                made.append({"type": "text", "text": part.text})
            case InputFile():
                made.append({"type": "file", "file": {"file_id": part.file_id}})
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
    output: list[OutputMessage]
    instructions: str | None
    metadata: dict[str, str]
    temperature: float
    top_p: float
    max_output_tokens: int | None
    incomplete_details: IncompleteDetails | None = None
    error: None = None
    parallel_tool_calls: Literal[False] = False
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = Field(default_factory=list)
    store: Literal[False] = False
    usage: ResponseUsage | None = None
    evidence: list[EvidenceJSON] = Field(default_factory=list)
    receipt: ChatReceipt | None = None
