"""Responses that later ones continue by `previous_response_id`: private to the key, and bounded in bytes."""

from collections import OrderedDict
from dataclasses import dataclass

from pydantic import TypeAdapter

from serve.api.errors import APIError
from serve.api.schemas.chat import ChatMessage
from serve.api.schemas.media import TextPart, url_of
from serve.api.schemas.responses import InputItem, InputReference, ResponseObject, ResponsesRequest


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """messages: the input of this response without what it continues, and the answer."""

    owner: str
    messages: list[ChatMessage]
    reply: ResponseObject

    @property
    def nbytes(self) -> int:
        return sum(map(_size, self.messages)) + sum(len(part.model_dump_json()) for part in self.reply.media)


class ResponseStore:
    """The responses of all owners. The ones that were used least recently are dropped first."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()

    def add(self, owner: str, messages: list[ChatMessage], reply: ResponseObject) -> None:
        stored = StoredResponse(owner, messages, reply)
        self._responses[reply.id] = stored
        self.nbytes += stored.nbytes
        while self.nbytes > self.max_bytes:
            self._drop(next(iter(self._responses)))

    def get(self, owner: str, response_id: str, param: str | None = None) -> StoredResponse:
        """Returns a response of this owner. Raises APIError 404, as it does for one that does not exist at all."""
        found = self._responses.get(response_id)
        if found is None or found.owner != owner:
            message = f"no response {response_id!r}; it was not stored, or dropped to make room; send the whole input"
            raise APIError(404, message, "response_not_found", param=param)
        self._responses.move_to_end(response_id)
        return found

    def delete(self, owner: str, response_id: str) -> None:
        self.get(owner, response_id)
        self._drop(response_id)

    def conversation(self, owner: str, response_id: str | None) -> list[ChatMessage]:
        """Returns the messages of a response and of all that it continues, oldest first. Raises APIError 404."""
        parts = []
        while response_id is not None:
            stored = self.get(owner, response_id, "previous_response_id")
            parts.append(stored.messages)
            response_id = stored.reply.previous_response_id
        return [message for messages in reversed(parts) for message in messages]

    def resolved(self, owner: str, request: ResponsesRequest) -> ResponsesRequest:
        """Returns the request with the stored items that its input refers to. Raises APIError 404 for one not kept."""
        if isinstance(request.input, str):
            return request
        items = [
            self._item(owner, item.id, f"input.{n}.id") if isinstance(item, InputReference) else item
            for n, item in enumerate(request.input)
        ]
        return request.model_copy(update={"input": items})

    def _item(self, owner: str, item_id: str, param: str) -> InputItem:
        for stored in reversed(self._responses.values()):
            for item in stored.reply.output if stored.owner == owner else ():
                if item.id == item_id:
                    return TypeAdapter(InputItem).validate_python(item.model_dump())
        message = f"no item {item_id!r} of a stored response; it was not stored, or dropped to make room; send the item"
        raise APIError(404, message, "response_not_found", param=param)

    def _drop(self, response_id: str) -> None:
        self.nbytes -= self._responses.pop(response_id).nbytes


def _size(message: ChatMessage) -> int:
    called = sum(len(call.function.name) + len(call.function.arguments) for call in message.tool_calls)
    if isinstance(message.content, str):
        return called + len(message.content)
    return called + sum(len(part.text if isinstance(part, TextPart) else url_of(part)) for part in message.content)
