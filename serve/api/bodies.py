"""Reads the JSON bodies of requests at a bounded cost, and away from the event loop.

Before a body is parsed, the bytes outside of its `data:` URLs are counted. What remains is small, so that parsing and
checking it take milliseconds. Checks end at the first error: a list of a million wrong items costs as much as one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from serve.api.errors import APIError, invalid_json, unsupported_parameter, validation_error
from serve.api.forms import read_form

Body = TypeVar("Body", bound=BaseModel)
_MEDIA = b'"data:'  # how the JSON of a data: URL begins


class BoundedJSONRoute(APIRoute):
    """A route whose JSON body is checked by `parse_body` in a thread. FastAPI is given the finished object."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        field = self.body_field
        if field is None:
            return handle
        if isinstance(field.field_info, Form):

            async def handle_form(request: Request) -> Response:
                request._form = await read_form(request)  # which FastAPI then takes
                return await handle(request)

            return handle_form
        model: Any = field.field_info.annotation  # a schema: a body is declared as one

        async def handle_checked(request: Request) -> Response:
            if _is_json(request.headers.get("content-type", "")):
                max_bytes = request.app.state.service.config.limits.json_bytes
                body = await asyncio.to_thread(parse_body, model, await request.body(), max_bytes)
                request = _CheckedRequest(request.scope, request.receive, body)
            return await handle(request)

        return handle_checked


class _CheckedRequest(Request):
    """A request whose JSON is an object of its model already, which FastAPI accepts as it is."""

    def __init__(self, scope: Any, receive: Any, body: BaseModel):
        super().__init__(scope, receive)
        self._body, self._json = b"checked", body


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse_body(model: type[Body], data: bytes, max_bytes: int) -> Body:
    """Returns the object that a request's body holds.

    Args:
        model: The class of the object.
        max_bytes: The most bytes that the body may have outside of its data: URLs.

    Raises APIError 400 at the first error, and 413 for too many bytes.
    """
    size = json_bytes(data)
    if size > max_bytes:
        raise APIError(
            413,
            f"the request has {size} bytes of JSON besides its videos and pictures, the limit is {max_bytes}",
            "request_too_large",
        )
    try:
        values = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise invalid_json() from error
    if isinstance(values, dict):
        # Names before values: a request with a wrong name is refused without looking at what else it holds.
        for name, value in values.items():
            if name not in model.model_fields and value is not None:
                raise unsupported_parameter(name)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        raise validation_error(first, field_of(first, values)) from error


def field_of(error: ErrorDetails, request: Any) -> str:
    """Returns the field of the request that one of Pydantic's errors is about, such as "messages.0.role".

    A location has validators and members of unions between the fields. What is no key of the request is none of its
    fields, except at the end, where it is a key that is missing.
    """
    location, found, here = error["loc"], [], request
    for number, part in enumerate(location):
        following = location[number + 1 : number + 2]
        # The member {"type": "text", "text": ...} of a union is called "text" as its field is.
        is_member = following and _has(here, following[0]) and not _has(_item(here, part), following[0])
        if _has(here, part) and not is_member:
            found.append(str(part))
            here = _item(here, part)
        elif not following and error["type"] == "missing":
            found.append(str(part))
    if error["type"].startswith("union_tag"):
        found.append("type")
    return ".".join(found)


def _has(values: Any, key: int | str) -> bool:
    return key in values if isinstance(values, dict) else isinstance(values, list) and key in range(len(values))


def _item(values: Any, key: Any) -> Any:
    return values[key] if _has(values, key) else None


def json_bytes(data: bytes) -> int:
    """Returns the number of bytes of a JSON text outside of its `data:` URLs.

    A quotation mark before `data:` begins a string or lies inside of one, and the next one is inside of the same string
    or ends it. What is left out is therefore never structure, whatever the text holds.
    """
    size, at = 0, 0
    while (start := data.find(_MEDIA, at)) >= 0:
        size += start - at
        end = data.find(b'"', start + 1)
        at = len(data) if end < 0 else end
    return size + len(data) - at
