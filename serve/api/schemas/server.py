"""Files, models, health and errors."""

from typing import Literal

from serve.api.schemas.base import ReplyModel


class FileReply(ReplyModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(ReplyModel):
    object: Literal["list"] = "list"
    data: list[FileReply]
    has_more: Literal[False] = False


class FileDeleted(ReplyModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ModelReply(ReplyModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["videollm"] = "videollm"


class ModelList(ReplyModel):
    object: Literal["list"] = "list"
    data: list[ModelReply]


class HealthReply(ReplyModel):
    """The health of the server. `status` is "degraded" if videos cannot be decoded or the language model's server
    does not answer."""

    status: Literal["ok", "degraded"]
    decoder: Literal["up", "down"]
    engine: Literal["up", "down"]
    device: str
    waiting: int


class ErrorDetail(ReplyModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(ReplyModel):
    error: ErrorDetail
