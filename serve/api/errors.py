"""Errors in the shape that OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException

from videollm.errors import ContextOverflowError, EngineError, VideoError, VideoLLMError

logger = logging.getLogger(__name__)

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Most characters of an error: it may repeat what a client sent.
MESSAGE, PARAM = 1000, 100
# Kinds of content that other services take, and what to send here instead.
INSTEAD = {
    "input_audio": "send the video that has the sound, or transcribe it with /v1/audio/transcriptions",
    "video": 'send {"type": "video_url", "video_url": {"url": ...}}',
    "image": 'send {"type": "image_url", "image_url": {"url": ...}}',
}


class APIError(Exception):
    """A refusal of a request.

    Args:
        status: The HTTP status.
        message: What is wrong, for people.
        code: What is wrong, for programs.
        param: The field of the request that is wrong, such as "messages.0.content.1".
        kind: OpenAI's class of error, the field `type`.
        retry_after_s: When to try again, for the header Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        kind: str = "invalid_request_error",
        retry_after_s: int | None = None,
    ):
        super().__init__(_shortened(message, MESSAGE))
        self.status, self.code, self.param, self.kind, self.retry_after_s = status, code, param, kind, retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def as_api_error(error: Exception, param: str | None = None) -> APIError:
    """Returns what a client may learn about an error. Paths and addresses of this machine are left out."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, ContextOverflowError):
        return APIError(400, str(error), "context_length_exceeded", param="messages")
    if isinstance(error, EngineError):
        logger.warning("%s", error)
        message = f"the language model's server {error.reason}"
        return APIError(503, message, "engine_unavailable", kind="server_error", retry_after_s=5)
    if isinstance(error, VideoError):
        return APIError(400, f"the video cannot be used: {error.reason}", "invalid_media", param=param)
    if isinstance(error, VideoLLMError):
        return APIError(400, str(error), "invalid_value", param=param)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        logger.warning("%s", error)
        message = "the server's disk is full"
        return APIError(503, message, "disk_full", kind="server_error", retry_after_s=60)
    return APIError(500, "the server failed on this request; see its log", "internal_error", kind="server_error")


@contextmanager
def api_errors(param: str | None = None) -> Iterator[None]:
    """Turns errors of the library into APIError. `param` is the field of the request that the work inside is about."""
    try:
        yield
    except VideoLLMError as error:
        raise as_api_error(error, param) from error


def validation_error(error: ErrorDetails, field: str) -> APIError:
    """Returns the refusal for one of Pydantic's errors, which is about a field of the request."""
    param = _shortened(field, PARAM) or None
    if error["type"] == "extra_forbidden":
        return unsupported_parameter(param or "")
    if error["type"] == "json_invalid":
        return invalid_json()
    message, context = error["msg"].removeprefix("Value error, "), error.get("ctx") or {}
    if error["type"] == "union_tag_invalid":
        instead = INSTEAD.get(context["tag"], "")
        message = f"{context['tag']!r} is not one of {context['expected_tags']}{instead and f'; {instead}'}"
    elif error["type"] == "union_tag_not_found":
        return APIError(400, f"{param}: this field is missing", "missing_required_parameter", param=param)
    code = "missing_required_parameter" if error["type"] == "missing" else "invalid_value"
    return APIError(400, f"{param or 'the request'}: {message}", code, param=param)


def unsupported_parameter(name: str) -> APIError:
    name = _shortened(name, PARAM)
    return APIError(400, f"unsupported parameter: {name!r}", "unsupported_parameter", param=name)


def invalid_json() -> APIError:
    return APIError(400, "the request's body is not JSON", "invalid_json")


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


async def on_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return validation_error(first, ".".join(str(part) for part in first["loc"][1:])).response()


async def on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed", 408: "request_timeout", 413: "request_too_large"}.get(
        error.status_code, "invalid_request"
    )
    made = APIError(error.status_code, f"{request.method} {request.url.path}: {error.detail}", code)
    return JSONResponse(made.body, made.status, error.headers)


async def on_error(_: Request, error: Exception) -> JSONResponse:
    return as_api_error(error).response()


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, APIError)
    return error.response()
