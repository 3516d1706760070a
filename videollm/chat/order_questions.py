"""What an English question about times and order asks for: when, how long, at which moment, first, before, after.

As in `videollm.chat.questions`, only the form of the question is read, and what it asks about may be any words.
"""

import re
from dataclasses import dataclass
from typing import Literal

from videollm.chat.questions import singular, spoken_words, times_in

AsksOrder = Literal[
    "when",
    "how long",
    "moment",
    "first",
    "last",
    "after",
    "before",
    "comes after",
    "comes before",
    "timeline",
    "things",
    "change",
    "length",
]

_VIDEO = r"(?:the|this) (?:video|clip|film|movie|recording)"
_HERE = rf"(?: (?:here|in it|in {_VIDEO}|on (?:the )?screen))?"
_A = r"(?:an? |the |any |some |this |that )?"
_BE, _DO, _CAN = r"(?:is|are|was|were)", r"(?:do|does|did)", r"(?:can|could)"
_SHOWN = r"(?:shown|seen|visible|there|present|on screen|in view)"
_SEE = rf"(?:{_CAN}|{_DO}) (?:you|we|i) see"
_SEEN = rf"(?:{_BE} {_SHOWN}|{_CAN} be seen|appear(?:s|ed)?|comes?|came|happen(?:s|ed)?|{_SEE})"
_WHEN = r"(?:when|at (?:what|which) (?:time|moment)|from when to when)"
_THAT = rf"(?: (?:that )?(?:(?:{_BE} )?(?:shown|seen|appears|visible)|(?:you|we|i|one) (?:can )?sees?))?"
_WRITE = r"(?:describe|caption|list|give|write|make|show|tell me)"
_SCENE = r"(?:the (?:scene|video|subject|picture)|this video|anything|something|it)"
_NEXT = r"(?: next| directly| right| immediately)?"
_FORMS: tuple[tuple[AsksOrder, str], ...] = (
    ("length", rf"how long (?:{_BE} {_VIDEO}|{_DO} {_VIDEO} (?:last|take|go on))"),
    ("length", rf"when {_DO} {_VIDEO} (?:end|finish|stop)"),
    ("length", rf"what {_BE} the (?:length|duration)(?: of {_VIDEO})?"),
    ("when", rf"{_WHEN} {_DO} {_A}(.+?) (?:first )?(?:appear|show up|turn up){_HERE}"),
    ("when", rf"{_WHEN} {_BE} {_A}(.+?) (?:first )?{_SHOWN}{_HERE}"),
    ("when", rf"{_WHEN} {_BE} there {_A}(.+?){_HERE}"),
    ("when", rf"{_WHEN} {_CAN} {_A}(.+?) be seen{_HERE}"),
    ("when", rf"{_WHEN} (?:{_DO}|{_CAN}) (?:you|we|i|one) see {_A}(.+?){_HERE}"),
    ("when", rf"where in {_VIDEO} (?:{_BE}|{_DO}) {_A}(.+?)(?: appear| {_SHOWN})?"),
    ("how long", rf"(?:for )?how long {_BE} {_A}(.+?) {_SHOWN}{_HERE}"),
    ("how long", rf"(?:for )?how long (?:{_DO}|{_CAN}) {_A}(.+?) (?:appear|be seen|stay|remain)(?: {_SHOWN})?{_HERE}"),
    ("first", rf"(?:what|which (?:thing|object)s?) (?:{_SEEN} first|first {_SEEN}){_HERE}"),
    ("first", rf"what {_BE} the first (?:thing|object|scene){_THAT}{_HERE}"),
    ("first", rf"(?:what|which (?:thing|object)s?) {_SEEN} (?:at|in) the (?:beginning|start)(?: of {_VIDEO})?"),
    ("first", rf"what {_DO} {_VIDEO} (?:start|begin|open)(?: with)?|how {_DO} {_VIDEO} (?:start|begin|open)"),
    ("last", rf"(?:what|which (?:thing|object)s?) (?:{_SEEN} last|last {_SEEN}){_HERE}"),
    ("last", rf"what {_BE} the last (?:thing|object|scene){_THAT}{_HERE}"),
    ("last", rf"(?:what|which (?:thing|object)s?) {_SEEN} (?:at|in) the end(?: of {_VIDEO})?"),
    ("last", rf"what {_DO} {_VIDEO} (?:end|close|finish)(?: with)?|how {_DO} {_VIDEO} (?:end|close|finish)"),
    ("after", rf"what {_SEEN}{_NEXT} after {_A}(.+?){_HERE}|what follows {_A}(.+?){_HERE}"),
    ("after", rf"after {_A}(.+?), what {_SEEN}{_NEXT}{_HERE}"),
    ("before", rf"what {_SEEN}{_NEXT} before {_A}(.+?){_HERE}|what precedes {_A}(.+?){_HERE}"),
    ("before", rf"before {_A}(.+?), what {_SEEN}{_NEXT}{_HERE}"),
    ("comes after", rf"{_DO} {_A}(.+?) (?:appear|come) after {_A}(.+?){_HERE}"),
    ("comes after", rf"{_BE} {_A}(.+?) {_SHOWN} after {_A}(.+?){_HERE}"),
    ("comes before", rf"{_DO} {_A}(.+?) (?:appear|come) before {_A}(.+?){_HERE}"),
    ("comes before", rf"{_BE} {_A}(.+?) {_SHOWN} before {_A}(.+?){_HERE}"),
    ("first", rf"(?:what|which)(?: one)? {_SEEN} (?:first|earlier),? {_A}(.+?),? or {_A}(.+?)"),
    ("last", rf"(?:what|which)(?: one)? {_SEEN} (?:last|later),? {_A}(.+?),? or {_A}(.+?)"),
    ("timeline", rf"{_WRITE}\b.*\b(?:times|timeline|and when|chronolog\w*)\b.*"),
    ("timeline", rf"what {_SEEN} at each time{_HERE}"),
    ("things", r"(?:how many|count the) (?:different |distinct )?(?:things|objects|subjects|items)\b.*"),
    ("change", rf"{_DO} {_SCENE} change\b.*|what changes\b.*"),
    ("change", rf"{_BE} there (?:an?|any) (?:scene )?changes?\b.*"),
)
FORMS: list[tuple[AsksOrder, re.Pattern[str]]] = [(asks, re.compile(form)) for asks, form in _FORMS]
_MOMENT = re.compile(
    rf"(?:what(?:'s| {_BE})?|describe what {_BE}|tell me what {_BE})? ?"
    rf"(?:{_SEEN}|{_SHOWN}|happening|going on|in {_VIDEO}|{_DO} {_VIDEO} show)?{_HERE}"
    rf"|(?:describe|caption|summari[sz]e)(?: {_VIDEO}| it| what happens)?"
)


@dataclass(frozen=True, slots=True)
class OrderQuestion:
    """asks: what for. thing, other: the words that it is about, in the singular where they name something the detector
    knows. start_s, end_s: the part of the video that a "moment" is; `end_s` is None for one time."""

    asks: AsksOrder
    thing: str = ""
    other: str = ""
    start_s: float = 0.0
    end_s: float | None = None


def read_order(text: str) -> OrderQuestion | None:
    """Returns the question, or None where its form is not one of these."""
    words, times_s = spoken_words(text), times_in(text)
    if times_s is not None:
        start_s, end_s = times_s
        return OrderQuestion("moment", start_s=start_s, end_s=end_s) if _MOMENT.fullmatch(words) else None
    for asks, form in FORMS:
        if found := form.fullmatch(words):
            thing, other = ([*map(singular, filter(None, found.groups())), "", ""])[:2]
            return OrderQuestion(asks, thing, other)
    return None
