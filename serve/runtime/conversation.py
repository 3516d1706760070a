"""The messages of a chat request as a conversation of the library: texts by role, and the media beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from serve.api.errors import APIError
from serve.api.schemas.chat import ChatMessage
from serve.api.schemas.media import FilePart, ImagePart, TextPart, VideoPart
from videollm.models.processor import Message
from videollm.models.tool_format import ToolCall, ToolFormat

SYSTEM = ("system", "developer")


@dataclass(frozen=True, slots=True)
class MediaReference:
    """A video or picture of a request. before: the message that it is placed before. param: its field of the
    request."""

    part: VideoPart | ImagePart | FilePart
    before: int
    param: str


@dataclass(frozen=True, slots=True)
class ReadMessages:
    messages: list[Message]
    media: list[MediaReference]


def read_conversation(sent: Sequence[ChatMessage], format: ToolFormat | None = None) -> ReadMessages:
    """Returns the conversation. System messages are put together at its beginning, and messages of one role that follow
    one another become one, because many chat templates take nothing else.

    Calls and results of functions are written as in `format`. For a model without one, a result is a message of the
    user.

    Raises APIError with the message that is wrong.
    """
    messages: list[Message] = []
    media: list[MediaReference] = []
    system = [_text(message) for message in sent if message.role in SYSTEM]
    if system:
        messages.append(Message("system", "\n\n".join(system)))
    for number, message in enumerate(sent):
        if message.role in SYSTEM:
            continue
        role = "user" if message.role == "tool" and format is None else message.role
        text = _text(message)
        if format is not None:
            calls = [ToolCall(c.function.name, _as_templates_write(c.function.arguments)) for c in message.tool_calls]
            text = format.text(text, calls)
        if messages and messages[-1].role == role != "tool":
            messages[-1] = Message(role, f"{messages[-1].content}\n{text}")
        else:
            messages.append(Message(role, text))
        for place, part in enumerate(message.content):
            if isinstance(part, str | TextPart):
                continue
            if message.role != "user":
                raise _invalid("only a user's message may contain a video", f"messages.{number}.content.{place}")
            media.append(MediaReference(part, len(messages) - 1, f"messages.{number}.content.{place}"))
    if not messages or messages[-1].role not in ("user", "tool"):
        raise _invalid("the last message must be the user's", f"messages.{len(sent) - 1}.role")
    if not any(message.role == "user" for message in messages):
        raise _invalid("a message before a function's result must be the user's", "messages.0.role")
    return ReadMessages(messages, media)


def _as_templates_write(arguments: str) -> str:
    """Returns a JSON text with the spaces of chat templates, and any other text as it is."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _invalid(message: str, param: str) -> APIError:
    return APIError(400, f"{param}: {message}", "invalid_value", param=param)
