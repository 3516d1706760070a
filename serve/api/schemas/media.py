"""The names of videos and pictures in requests, and the description of the used videos in replies."""

import base64
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serve.api.schemas.base import ReplyModel, RequestModel
from videollm.output_config import Modality

Detail = Literal["low", "auto", "high"]


class VideoOptions(RequestModel):
    """Which frames of a video to use. At most one of `frames`, `fps` and `detail` may be set.

    Attributes:
        frames: The number of frames, spread evenly.
        fps: The number of frames per second.
        detail: Half the model's own rate (low), that rate (auto), or twice that rate (high).
        start, end: The part of the video in seconds.
    """

    frames: int | None = Field(default=None, ge=1)
    fps: float | None = Field(default=None, gt=0, le=240)
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, gt=0)
    detail: Detail = "auto"

    @model_validator(mode="after")
    def _check(self) -> "VideoOptions":
        if sum([self.frames is not None, self.fps is not None, self.detail != "auto"]) > 1:
            raise ValueError("set one of frames, fps and detail")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end must be above start")
        return self


class VideoUrl(RequestModel):
    """The address of a video: data:video/...;base64,..., the id of an uploaded file, stream://ID for a stream that is
    watched, or http(s):// or file:// if the server allows them."""

    url: str


class ImageUrl(RequestModel):
    """The address of a picture, as that of a video. The encoder has one size of pictures, whatever `detail` says."""

    url: str
    detail: Detail = "auto"


class FileReference(RequestModel):
    """An uploaded file, or one in the request: `file_data` is a data: URL. `filename` has no effect."""

    file_id: str | None = None
    file_data: Annotated[str, Field(pattern="^data:")] | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "FileReference":
        if (self.file_id is None) == (self.file_data is None):
            raise ValueError("give either file_id or file_data")
        return self


class CacheablePart(RequestModel):
    """cache_control: where some services begin to cache a prompt. This one finds out by itself."""

    cache_control: dict[str, Any] | None = None


class TextPart(CacheablePart):
    type: Literal["text"]
    text: str


class VideoPart(CacheablePart):
    type: Literal["video_url"]
    video_url: VideoUrl


class ImagePart(CacheablePart):
    type: Literal["image_url"]
    image_url: ImageUrl


class FilePart(CacheablePart):
    type: Literal["file"]
    file: FileReference


MediaPart = Annotated[VideoPart | ImagePart | FilePart, Field(discriminator="type")]
ContentPart = Annotated[TextPart | VideoPart | ImagePart | FilePart, Field(discriminator="type")]


def url_of(part: VideoPart | ImagePart | FilePart) -> str:
    match part:
        case VideoPart():
            return part.video_url.url
        case ImagePart():
            return part.image_url.url
        case FilePart():
            return part.file.file_id or part.file.file_data or ""


class UsedVideo(ReplyModel):
    """A video of the request, and the options in effect. `times` are presentation times of the encoded frames in
    seconds. Those of a stream count from `starts_at`. `senses` are those that have looked or listened."""

    source: str
    duration: float
    frames: int
    lost_frames: int
    fps: float | None
    start: float
    end: float
    detail: Detail | None
    times: list[float]
    senses: list[str]
    starts_at: str | None = None


class GeneratedUrl(ReplyModel):
    """url: a data: URL."""

    url: str


class GeneratedSound(ReplyModel):
    """data: a file in base64."""

    data: str
    format: Literal["wav"] = "wav"


class GeneratedPart(ReplyModel):
    """What an answer shows beside its text. `generated` marks it, as the metadata of the file do."""

    generated: Literal[True] = True


class GeneratedImagePart(GeneratedPart):
    """A PNG."""

    type: Literal["image_url"] = "image_url"
    image_url: GeneratedUrl


class GeneratedVideoPart(GeneratedPart):
    """An MP4."""

    type: Literal["video_url"] = "video_url"
    video_url: GeneratedUrl


class GeneratedAudioPart(GeneratedPart):
    """A WAV."""

    type: Literal["input_audio"] = "input_audio"
    input_audio: GeneratedSound


class RefusalPart(ReplyModel):
    """Why something that an answer would show was not made."""

    type: Literal["refusal"] = "refusal"
    refusal: str


ShownPart = GeneratedImagePart | GeneratedVideoPart | GeneratedAudioPart | RefusalPart


def shown_part(modality: Modality, data: bytes, problem: str = "") -> ShownPart:
    """Returns a file that was generated as a part of an answer, or the problem where there is none."""
    if problem:
        return RefusalPart(refusal=problem)
    text = base64.b64encode(data).decode()
    match modality:
        case "image":
            return GeneratedImagePart(image_url=GeneratedUrl(url=f"data:image/png;base64,{text}"))
        case "video":
            return GeneratedVideoPart(video_url=GeneratedUrl(url=f"data:video/mp4;base64,{text}"))
        case "audio":
            return GeneratedAudioPart(input_audio=GeneratedSound(data=text))
