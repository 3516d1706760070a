"""Turns the pieces of a generated answer into the body or the server-sent events of the Responses API."""

import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from time import time
from typing import Any, Literal

from serve.api.errors import APIError
from serve.api.schemas.chat import ChatMessage, ChunkDelta
from serve.api.schemas.media import ShownPart
from serve.api.schemas.responses import (
    IncompleteDetails,
    InputTokens,
    OutputFunctionCall,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
)
from serve.api.schemas.tools import SentFunctionCall, SentToolCall
from serve.api.streams import AnswerStream, shown_parts
from serve.api.tool_calls import GrowingReply, call_id
from serve.runtime.chat import PreparedChat, evidence_json, make_receipt
from serve.runtime.service import Service
from videollm.chat.answer import Answer
from videollm.models.tool_format import ToolCall

Status = Literal["in_progress", "completed", "incomplete"]


class ResponseWriter:
    """Writes one response of the Responses API, as one object or as events."""

    def __init__(self, service: Service, chat: PreparedChat, request: ResponsesRequest):
        self.service, self.chat, self.request = service, chat, request
        self.id, self.created = f"resp_{secrets.token_hex(12)}", int(time())
        self.message_id = f"msg_{secrets.token_hex(12)}"
        self._sequence_number = -1
        self._ids: list[str] = []  # of the calls
        self._added: list[OutputMessage | OutputFunctionCall] = []  # items that clients of a stream know

    async def whole(self, stream: AnswerStream) -> ResponseObject:
        async for _, item in stream:
            if isinstance(item, Answer):
                return self._response(item, await shown_parts(self.service, self.chat, item))
        raise RuntimeError("the stream ended without an answer")

    async def events(self, stream: AnswerStream) -> AsyncIterator[str]:
        reply = GrowingReply(self.chat)
        try:
            for name in ("created", "in_progress"):
                yield self._event(f"response.{name}", response=self._response(None).model_dump())
            async for _, item in stream:
                if not isinstance(item, Answer):
                    for event in self._grown(reply.grow(item.text)):
                        yield event
                    continue
                last = reply.grow("", complete=True)
                for event in self._grown(last if last or self._added else ChunkDelta(content="")):
                    yield event
                done = self._response(item, await shown_parts(self.service, self.chat, item))
                for index, output in enumerate(done.output):
                    for event in self._ended(index, output):
                        yield event
                yield self._event(f"response.{done.status}", response=done.model_dump())
        except APIError as error:
            yield self._event("error", code=error.code, message=str(error), param=error.param)

    def _grown(self, delta: ChunkDelta | None) -> Iterator[str]:
        """Yields the events of what is new: the beginnings of items, and more text or arguments."""
        if delta is None:
            return
        if delta.content is not None:
            if not self._added:
                yield self._add(self._message("in_progress"))
                yield self._event("response.content_part.added", **self._place, part=OutputText(text="").model_dump())
            if delta.content:
                yield self._event("response.output_text.delta", **self._place, delta=delta.content, logprobs=[])
        for part in delta.tool_calls or ():
            if part.id is not None:
                call = ToolCall(part.function.name or "", "")
                yield self._add(self._call(part.index, call, "in_progress"))
            if part.function.arguments:
                place = {"item_id": self._added[-1].id, "output_index": len(self._added) - 1}
                yield self._event("response.function_call_arguments.delta", **place, delta=part.function.arguments)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.message_id, "output_index": 0, "content_index": 0}

    def _add(self, item: OutputMessage | OutputFunctionCall) -> str:
        self._added.append(item)
        return self._event("response.output_item.added", output_index=len(self._added) - 1, item=item.model_dump())

    def _ended(self, index: int, item: OutputMessage | OutputFunctionCall) -> Iterator[str]:
        if isinstance(item, OutputMessage):
            (text,) = item.content
            yield self._event("response.output_text.done", **self._place, text=text.text, logprobs=[])
            yield self._event("response.content_part.done", **self._place, part=text.model_dump())
        else:
            place = {"item_id": item.id, "output_index": index, "name": item.name}
            yield self._event("response.function_call_arguments.done", **place, arguments=item.arguments)
        yield self._event("response.output_item.done", output_index=index, item=item.model_dump())

    def _event(self, kind: str, **values: Any) -> str:
        self._sequence_number += 1
        data = {"type": kind, "sequence_number": self._sequence_number, **values}
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

    def _message(self, status: Status, *content: OutputText) -> OutputMessage:
        return OutputMessage(id=self.message_id, status=status, content=list(content))

    def _call(self, number: int, call: ToolCall, status: Status) -> OutputFunctionCall:
        if number == len(self._ids):
            self._ids.append(call_id())
        own = self._ids[number]
        item_id = own.replace("call_", "fc_")
        return OutputFunctionCall(id=item_id, call_id=own, name=call.name, arguments=call.arguments, status=status)

    def _response(self, answer: Answer | None, media: Sequence[ShownPart] = ()) -> ResponseObject:
        request = self.request
        response = ResponseObject(
            id=self.id,
            created_at=self.created,
            model=self.service.model.config.name,
            status="in_progress",
            output=[],
            instructions=request.instructions,
            metadata=request.metadata,
            temperature=request.temperature,
            top_p=request.top_p,
            max_output_tokens=request.max_output_tokens,
            parallel_tool_calls=request.parallel_tool_calls,
            tool_choice=request.tool_choice,
            tools=[tool.model_dump() for tool in request.tools],
            previous_response_id=request.previous_response_id,
            store=request.store,
            text=request.text.model_dump(by_alias=True, exclude_none=True),
            truncation=request.truncation,
        )
        if answer is None:
            return response
        receipt = answer.receipt
        truncated = receipt.finish == "length"
        response.status = "incomplete" if truncated else "completed"
        response.incomplete_details = IncompleteDetails(reason="max_output_tokens") if truncated else None
        content, calls = self.chat.read(answer.text)
        response.output = [self._call(number, call, response.status) for number, call in enumerate(calls)]
        if content or not calls:
            response.output.insert(0, self._message(response.status, OutputText(text=content)))
        response.evidence = [] if calls else evidence_json(answer)
        response.media = list(media)
        response.receipt = make_receipt(self.chat, answer)
        response.usage = ResponseUsage(
            input_tokens=receipt.prompt_tokens,
            input_tokens_details=InputTokens(cached_tokens=receipt.cached_tokens),
            output_tokens=receipt.completion_tokens,
            total_tokens=receipt.prompt_tokens + receipt.completion_tokens,
        )
        if request.store:
            made = [
                SentToolCall(id=self._ids[n], function=SentFunctionCall(name=call.name, arguments=call.arguments))
                for n, call in enumerate(calls)
            ]
            said = [*request.messages(), ChatMessage(role="assistant", content=content, tool_calls=made)]
            self.service.responses.add(self.chat.owner, said, response)
        return response
