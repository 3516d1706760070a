"""Calls of functions in answers, in the form of OpenAI's API."""

import secrets

from serve.api.schemas.chat import ChunkDelta, FinishReason
from serve.api.schemas.tools import FunctionCall, FunctionCallDelta, FunctionToolCall, ToolCallDelta
from serve.runtime.chat import PreparedChat
from videollm.chat.answer import Receipt
from videollm.models.tool_format import ToolCall


def call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def tool_call(call: ToolCall) -> FunctionToolCall:
    return FunctionToolCall(id=call_id(), function=FunctionCall(name=call.name, arguments=call.arguments))


def finish_reason(receipt: Receipt, calls: list[ToolCall]) -> FinishReason:
    return "tool_calls" if calls and receipt.finish == "stop" else receipt.finish


class GrowingReply:
    """A streamed answer, of which clients get what is new.

    Attributes:
        content, calls: What was said and called so far.
    """

    def __init__(self, chat: PreparedChat):
        self._chat, self._text = chat, ""
        self.content = ""
        self.calls: list[ToolCall] = []

    def grow(self, text: str, *, complete: bool = False) -> ChunkDelta | None:
        """Adds a piece of the answer's text and returns what is new, None if that is nothing certain."""
        self._text += text
        content, calls = self._chat.read(self._text, complete=complete)
        said = content[len(self.content) :]
        parts = []
        for index, call in enumerate(calls):
            before = self.calls[index].arguments if index < len(self.calls) else None
            more = call.arguments[len(before or "") :]
            if before is None:
                function = FunctionCallDelta(name=call.name, arguments=more)
                parts.append(ToolCallDelta(index=index, id=call_id(), type="function", function=function))
            elif more:
                parts.append(ToolCallDelta(index=index, function=FunctionCallDelta(arguments=more)))
        self.content, self.calls = content, calls
        return ChunkDelta(content=said or None, tool_calls=parts or None) if said or parts else None
