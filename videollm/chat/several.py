"""Questions in a conversation about several videos, for a model that was trained on one video at a time.

Which of the videos a question is about is read from its words, and each of them is asked about by itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from videollm.chat.answer import Answer, Evidence
from videollm.chat.prompt_video import PromptVideo
from videollm.models.processor import Message

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_ONE = r"(?:one|video|clip|film|movie|picture|image|photo)"
_MANY = r"(?:videos|clips|films|movies|pictures|images|photos)"
_NAMED = re.compile(rf"\b({'|'.join(ORDINALS)}|last|latest) {_ONE}\b")
_SEVERAL = re.compile(rf"\b(both|each|either|every|compare|differ\w*|two|three|which|{_MANY})\b")
_WHICH = re.compile(
    rf"which(?: {_ONE}| {_MANY})?(?: of (?:the|these|them|both)(?: two| three)?(?: {_MANY})?)?"
    r" (?:shows?|has|have|contains?|includes?|features?|is (?:about|of|with)|are (?:about|of|with)) (.+)"
)
_TOGETHER = re.compile(
    rf"\b(?:(?:both|each|every|all|either)(?: of)?(?: the| these)?(?: two| three)? (?:{_MANY}|{_ONE})"
    rf"|(?:these|the)(?: two| three)? {_MANY})\b"
)
_COMPARE = re.compile(r"\b(compare|differ\w*)\b")


@dataclass(frozen=True, slots=True)
class Share:
    """A question about one video of several.

    Attributes:
        name: What the video is called before its answer. It is empty if the question is about this video alone.
        messages: The conversation without the turns before the video, which say nothing about it.
        videos: The video, or all videos of a conversation that has at most one.
        number: The number of the video in the conversation.
    """

    name: str
    messages: list[Message]
    videos: list[PromptVideo]
    number: int


def divide(messages: Sequence[Message], videos: Sequence[PromptVideo]) -> list[Share]:
    """Divides the last question of a conversation among the videos that it is about.

    Where its words name none, these are the videos of the last message that has any.
    """
    if len(videos) < 2:
        return [Share("", list(messages), list(videos), 0)]
    question = messages[-1].content
    numbers = _asked(question.lower(), videos)
    asked = _about_one(question)
    shares = []
    for number in numbers:
        video = videos[number]
        name = f"{ORDINALS[number].capitalize()} {'picture' if video.is_picture else 'video'}: "
        system = [message for message in messages[:1] if message.role == "system"]
        turns = [*system, *messages[max(video.before, len(system)) : -1], Message("user", asked)]
        shares.append(Share(name if len(numbers) > 1 else "", turns, [video.moved(len(system))], number))
    return shares


def _asked(question: str, videos: Sequence[PromptVideo]) -> list[int]:
    named = {
        len(videos) - 1 if word in ("last", "latest") else ORDINALS.index(word) for word in _NAMED.findall(question)
    }
    if named := sorted(number for number in named if number < len(videos)):
        return named
    if _SEVERAL.search(question):
        return list(range(len(videos)))
    newest = max(video.before for video in videos)
    return [number for number, video in enumerate(videos) if video.before == newest]


def _about_one(question: str) -> str:
    """Returns a question about several videos as the question about each of them."""
    words = question.strip(" ?.!\n").lower()
    if found := _WHICH.fullmatch(words):
        return f"Is there {found[1]}?"
    if _COMPARE.search(words):
        return "What is in this video?"
    return _TOGETHER.sub("this video", _NAMED.sub("video", question))


def joined(answers: Sequence[tuple[Share, Answer]]) -> Answer:
    """Returns the answer that consists of the answers to each share, with their evidence and receipts put together."""
    receipts = [answer.receipt for _, answer in answers]

    def total(name: str) -> int:
        return sum(getattr(receipt, name) for receipt in receipts)

    receipt = replace(
        receipts[0],
        frames=total("frames"),
        lost_frames=total("lost_frames"),
        times_s=tuple(time for receipt in receipts for time in receipt.times_s),
        segments=total("segments"),
        visual_tokens=total("visual_tokens"),
        audio_tokens=None if receipts[0].audio_tokens is None else total("audio_tokens"),
        prompt_tokens=total("prompt_tokens"),
        cached_tokens=total("cached_tokens"),
        completion_tokens=total("completion_tokens"),
        truncated=any(receipt.truncated for receipt in receipts),
        finish="length" if any(receipt.finish == "length" for receipt in receipts) else "stop",
        ms={**receipts[0].ms, "total": receipts[-1].ms["total"]},
    )
    evidence: list[Evidence] = [
        replace(one, video=share.number) for share, answer in answers for one in answer.evidence
    ]
    text = "\n".join(share.name + answer.text for share, answer in answers)
    return Answer(text, tuple(evidence), receipt, tuple(one for _, answer in answers for one in answer.media))
