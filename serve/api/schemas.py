"""Requests and responses as JSON. A field that is not here is refused by name; null is the same as absent."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serve.api.errors import APIError


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values


class Reply(BaseModel):
    pass


# --- media


class VideoOptions(Request):
    """Which frames to look at. frames: this many, evenly spread; or fps: so many a second; or detail: half the model's
    own rate (low), that rate (auto), or twice (high). start, end: the part of the video, in seconds."""

    frames: int | None = Field(default=None, ge=1)
    fps: float | None = Field(default=None, gt=0, le=240)
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, gt=0)
    detail: Literal["low", "auto", "high"] = "auto"

    @model_validator(mode="after")
    def _one_rate(self) -> "VideoOptions":
        if sum([self.frames is not None, self.fps is not None, self.detail != "auto"]) > 1:
            raise ValueError("set one of frames, fps and detail")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end must be above start")
        return self


class VideoUrl(Request):
    """url: data:video/...;base64,..., the id of an uploaded file, or where the server allows it http(s):// or file://"""

    url: str


class ImageUrl(Request):
    url: str
    detail: Literal["auto"] = "auto"


class FileId(Request):
    file_id: str


class TextPart(Request):
    type: Literal["text"]
    text: str


class VideoPart(Request):
    type: Literal["video_url"]
    video_url: VideoUrl


class ImagePart(Request):
    type: Literal["image_url"]
    image_url: ImageUrl


class FilePart(Request):
    type: Literal["file"]
    file: FileId


MediaPart = Annotated[VideoPart | ImagePart | FilePart, Field(discriminator="type")]
Part = Annotated[TextPart | VideoPart | ImagePart | FilePart, Field(discriminator="type")]


def url_of(part: VideoPart | ImagePart | FilePart) -> str:
    match part:
        case VideoPart():
            return part.video_url.url
        case ImagePart():
            return part.image_url.url
        case FilePart():
            return part.file.file_id


# --- chat completions


class ChatMessage(Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]


class StreamOptions(Request):
    include_usage: bool = False


class TextFormat(Request):
    type: Literal["text"] = "text"


class Sampling(Request):
    """temperature 0, the default, is greedy: the same answer every time."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stream: bool = False
    video: VideoOptions = VideoOptions()


class ChatRequest(Sampling):
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    n: int = Field(default=1, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    stream_options: StreamOptions | None = None
    # Of these the server knows only what changes nothing.
    frequency_penalty: Literal[0] = 0
    presence_penalty: Literal[0] = 0
    response_format: TextFormat = TextFormat()

    @model_validator(mode="after")
    def _agree(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; give one")
        if len(self.stops) > 4 or "" in self.stops:
            raise ValueError("stop takes up to 4 texts, none of them empty")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class EvidenceOut(Reply):
    """A part of a video that speaks for the answer. video: which of the request's; tags: words with probabilities."""

    video: int
    start: float
    end: float
    score: float
    tags: list[tuple[str, float]]


class SeenVideo(Reply):
    """What was looked at, and the options in effect. times: of the frames, in seconds."""

    source: str
    duration: float
    frames: int
    lost_frames: int
    fps: float | None
    start: float
    end: float
    detail: Literal["low", "auto", "high"] | None
    times: list[float]


class ReceiptOut(Reply):
    """How an answer was made; `merged_from` is the number of segments before they were merged to fit the context."""

    model: str
    config_sha: str
    device: str
    videos: list[SeenVideo]
    segments: int
    merged_from: int | None
    visual_tokens: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    truncated: bool
    temperature: float
    top_p: float
    seed: int | None
    ms: dict[str, float]


class TopLogprob(Reply):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Reply):
    content: list[TokenLogprob]
    refusal: None = None


class AssistantMessage(Reply):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Reply):
    index: int
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: ChoiceLogprobs | None
    evidence: list[EvidenceOut]


class CachedTokens(Reply):
    cached_tokens: int


class Usage(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatCompletion(Reply):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    receipt: ReceiptOut


class Delta(Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(Reply):
    """evidence comes with the last chunk of an answer."""

    index: int
    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: ChoiceLogprobs | None = None
    evidence: list[EvidenceOut] | None = None


class ChatChunk(Reply):
    """receipt comes with the last chunk of the first answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    receipt: ReceiptOut | None = None


# --- responses


class InputText(Request):
    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = Field(default=None, max_length=0)
    logprobs: list[Any] | None = Field(default=None, max_length=0)


class InputVideo(Request):
    """video_url: as in chat completions; or file_id of an upload."""

    type: Literal["input_video"]
    video_url: str | None = None
    file_id: str | None = None


class InputImage(Request):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto"] = "auto"


class InputFile(Request):
    type: Literal["input_file"]
    file_id: str


InputPart = Annotated[InputText | InputVideo | InputImage | InputFile, Field(discriminator="type")]


class InputMessage(Request):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None


class ResponsesRequest(Sampling):
    """The server keeps no responses: store may only be false, and the whole conversation is the input."""

    model: str
    input: str | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    store: Literal[False] = False
    metadata: dict[str, str] = {}

    def chat(self) -> ChatRequest:
        """The same as a chat completion."""
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            messages.append({"role": "user", "content": self.input})
        else:
            messages += [{"role": m.role, "content": _chat_content(m.content)} for m in self.input]
        return ChatRequest(
            model=self.model,
            messages=[ChatMessage.model_validate(message) for message in messages],
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stream=self.stream,
            video=self.video,
        )


def _chat_content(content: str | list[InputPart]) -> str | list[dict[str, Any]]:
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
                made.append({"type": "video_url", "video_url": {"url": _either(part.video_url, part.file_id)}})
            case InputImage():
                made.append({"type": "image_url", "image_url": {"url": _either(part.image_url, part.file_id)}})
    return made


def _either(url: str | None, file_id: str | None) -> str:
    if (url is None) == (file_id is None):
        raise APIError(400, "give either an address or a file_id", "invalid_value", param="input")
    return url or file_id or ""


class OutputText(Reply):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []


class OutputMessage(Reply):
    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class IncompleteDetails(Reply):
    reason: Literal["max_output_tokens"]


class OutputTokens(Reply):
    reasoning_tokens: int = 0


class InputTokens(CachedTokens):
    cache_write_tokens: int = 0


class ResponseUsage(Reply):
    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens = OutputTokens()
    total_tokens: int


class ResponseObject(Reply):
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
    tools: list[Any] = []
    store: Literal[False] = False
    usage: ResponseUsage | None = None
    evidence: list[EvidenceOut] = []
    receipt: ReceiptOut | None = None


# --- embeddings


class EmbeddingsRequest(Request):
    """Texts, videos and pictures in one space, that of search. Each part of a list gives a vector."""

    model: str
    input: str | Annotated[list[str | Part], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    video: VideoOptions = VideoOptions()


class Embedding(Reply):
    """embedding: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Reply):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(Reply):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


# --- videos


class CaptionRequest(Request):
    """dense: describe each part too, with its times."""

    model: str
    video: VideoUrl
    options: VideoOptions = VideoOptions()
    dense: bool = False


class TimedText(Reply):
    start: float
    end: float
    text: str


class CaptionReply(Reply):
    object: Literal["video.caption"] = "video.caption"
    model: str
    text: str
    captions: list[TimedText]
    video: SeenVideo


class SummarizeRequest(Request):
    model: str
    video: VideoUrl
    options: VideoOptions = VideoOptions()
    parts: int = Field(default=6, ge=1, le=64)


class PartOut(TimedText):
    """time: of a frame in the middle. share: of the video that looks most like this part."""

    time: float
    share: float
    tags: list[tuple[str, float]]


class SummaryReply(Reply):
    object: Literal["video.summary"] = "video.summary"
    model: str
    text: str
    parts: list[PartOut]
    video: SeenVideo


class SearchRequest(Request):
    """query: a text; or like: a video or picture. limit: how many moments."""

    query: str | None = None
    like: MediaPart | None = None
    options: VideoOptions = VideoOptions()
    limit: int = Field(default=10, ge=1, le=100)

    @model_validator(mode="after")
    def _one(self) -> "SearchRequest":
        if (self.query is None) == (self.like is None):
            raise ValueError("give either query, a text, or like, a video or picture")
        return self


class MomentOut(TimedText):
    """video: file://... where the server's media root holds it, else its name. text: subtitles."""

    object: Literal["video.moment"] = "video.moment"
    video: str
    score: float
    tags: list[tuple[str, float]]


class SearchReply(Reply):
    object: Literal["list"] = "list"
    data: list[MomentOut]


# --- files and models


class FileOut(Reply):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(Reply):
    object: Literal["list"] = "list"
    data: list[FileOut]
    has_more: Literal[False] = False


class FileDeleted(Reply):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ModelOut(Reply):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["videollm"] = "videollm"


class ModelList(Reply):
    object: Literal["list"] = "list"
    data: list[ModelOut]


class Health(Reply):
    """status is "degraded" while videos cannot be decoded, or the language model's own server does not answer."""

    status: Literal["ok", "degraded"]
    decoder: Literal["up", "down"]
    engine: Literal["up", "down"]
    device: str
    waiting: int


class ErrorDetail(Reply):
    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(Reply):
    error: ErrorDetail
