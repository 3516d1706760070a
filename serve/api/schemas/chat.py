"""Chat completions, as OpenAI's API has them, with the evidence and the receipt of each answer."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve.api.schemas.base import CallerOptions, Items, ReplyModel, RequestModel, TextOr
from serve.api.schemas.media import ContentPart, ShownPart, UsedVideo, VideoOptions
from serve.api.schemas.tools import (
    FunctionTool,
    FunctionToolCall,
    NamedTool,
    ResponseFormat,
    SentToolCall,
    TextFormat,
    ToolCallDelta,
    ToolMode,
)
from videollm.chat.answer import GenerationReceipt
from videollm.cli.shapes import EvidenceJSON


class ChatMessage(RequestModel):
    """A message. Clients send answers back as they came, with fields that are empty here."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: TextOr[Items[ContentPart]] = ""
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: Items[SentToolCall] = Field(default_factory=list)
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> "ChatMessage":
        if "content" not in self.model_fields_set and self.role != "assistant":
            raise ValueError(f"a message of role {self.role} needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        return self


class StreamOptions(RequestModel):
    include_usage: bool = False
    include_obfuscation: bool = False


class SamplingOptions(CallerOptions):
    """How answers are sampled. Temperature 0, the default, is greedy and gives the same answer every time."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    parallel_tool_calls: bool = True
    store: bool = False
    video: VideoOptions = VideoOptions()


class ChatRequest(SamplingOptions):
    """A request. `store`, `reasoning_effort` and `verbosity` have no effect: completions are not kept, and the models
    do not think aloud."""

    model: str
    messages: Items[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: TextOr[Annotated[list[str], Field(max_length=4, fail_fast=True)]] = Field(default_factory=list)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int = Field(default=1, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict, max_length=1024)
    response_format: ResponseFormat = TextFormat(type="text")
    tools: Items[FunctionTool] = Field(default_factory=list)
    tool_choice: ToolMode | NamedTool = "auto"
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] = Field(default=["text"])
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    @model_validator(mode="after")
    def _check(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; give one")
        if "" in self.stops:
            raise ValueError("stop takes texts that are not empty")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReceipt(GenerationReceipt):
    """How an answer was made: the videos and the sampling parameters of the request, with what the model reports."""

    videos: list[UsedVideo]
    temperature: float
    top_p: float
    seed: int | None


class TopLogprob(ReplyModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(ReplyModel):
    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(ReplyModel):
    """An answer. `content` is null where the model only calls functions."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[FunctionToolCall] | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(ReplyModel):
    """An answer. `media` is what a model with outputs shows."""

    index: int
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None
    evidence: list[EvidenceJSON]
    media: list[ShownPart]


class CachedTokens(ReplyModel):
    cached_tokens: int


class ChatUsage(ReplyModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatCompletion(ReplyModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage
    receipt: ChatReceipt


class ChunkDelta(ReplyModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(ReplyModel):
    """A part of an answer. The last chunk of an answer has `evidence` and `media`."""

    index: int
    delta: ChunkDelta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None
    evidence: list[EvidenceJSON] | None = None
    media: list[ShownPart] | None = None


class ChatChunk(ReplyModel):
    """A chunk of a streamed completion. The last chunk of the first answer has `receipt`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    receipt: ChatReceipt | None = None
