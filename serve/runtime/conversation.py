"""The messages of a chat request as a conversation of the library: texts by role, and the media beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from serve.api.errors import APIError
from serve.api.schemas.chat import ChatMessage
from serve.api.schemas.media import FilePart, ImagePart, TextPart, VideoPart
from videollm.models.processor import Message

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


def read_conversation(sent: Sequence[ChatMessage]) -> ReadMessages:
    """Returns the conversation. System messages are put together at its beginning, and messages of one role that follow
    one another become one, because many chat templates take nothing else. A tool's result is a message of the user.

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
        role = "assistant" if message.role == "assistant" else "user"
        if messages and messages[-1].role == role:
            messages[-1] = Message(role, f"{messages[-1].content}\n{_text(message)}")
        else:
            messages.append(Message(role, _text(message)))
        for place, part in enumerate(message.content):
            if isinstance(part, str | TextPart):
                continue
            if message.role != "user":
                raise _invalid("only a user's message may contain a video", f"messages.{number}.content.{place}")
            media.append(MediaReference(part, len(messages) - 1, f"messages.{number}.content.{place}"))
    if not messages or messages[-1].role != "user":
        raise _invalid("the last message must be the user's", f"messages.{len(sent) - 1}.role")
    return ReadMessages(messages, media)


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _invalid(message: str, param: str) -> APIError:
    return APIError(400, f"{param}: {message}", "invalid_value", param=param)
