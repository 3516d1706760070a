"""Reads forms with a file (multipart/form-data) at a bounded cost."""

from pathlib import Path

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve.api.errors import APIError, unsupported_parameter
from serve.runtime.files import IncomingFile

FIELDS, FIELD_BYTES = 16, 1 << 16  # most fields besides the file, and the most that each may have
NAME_CHARACTERS = 200  # kept of a file's name


async def receive_file(request: Request, target: IncomingFile, *others: str) -> tuple[str, dict[str, str]]:
    """Receives a form with the field `file` and these other ones, all of them required.

    Returns the file's name, without folders and shortened, and the values of the other fields. Raises APIError.
    """
    form = dict(await read_form(request, target))
    file = form.pop("file", None)
    for name in form:
        if name not in others:
            raise unsupported_parameter(name)
    missing = next((name for name in others if name not in form), None if isinstance(file, UploadFile) else "file")
    if not isinstance(file, UploadFile) or missing:
        raise APIError(400, f"{missing}: this field is missing", "missing_required_parameter", param=missing)
    name = Path(file.filename or "video").name[:NAME_CHARACTERS]
    return name, {name: value for name, value in form.items() if isinstance(value, str)}


def announced_bytes(request: Request) -> int:
    """Returns the least size of the file in a form, as far as Content-Length says."""
    length = request.headers.get("content-length", "")
    return max(0, int(length) - FIELDS * FIELD_BYTES) if length.isdecimal() else 0


async def read_form(request: Request, target: IncomingFile | None = None) -> FormData:
    """Returns the form in a request's body.

    Args:
        target: Where the content of the form's file goes. By default it goes to a temporary file without a name.

    Raises APIError 400 for what is no such form, 413 if the target refuses the file.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise APIError(400, "the request's body is not a form; send multipart/form-data", "invalid_form")
    if parameters.get(b"charset", b"utf-8").lower() != b"utf-8":
        # Other codecs of Python give names that are no text, or fail in errors of their own.
        raise APIError(400, "the form's charset is not utf-8", "invalid_form")
    try:
        return await _Parser(request, target).parse()
    except MultiPartException as error:
        raise APIError(400, f"the form cannot be read: {error.message}", "invalid_form") from error


class _Parser(MultiPartParser):
    def __init__(self, request: Request, target: IncomingFile | None):
        super().__init__(request.headers, request.stream(), max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
        self._target = target

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        part = self._current_part
        if part.file is not None and self._target is not None:
            part.file.file.close()
            part.file = UploadFile(self._target, filename=part.file.filename, headers=part.file.headers)
