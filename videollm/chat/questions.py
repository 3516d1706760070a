"""What an English question asks for, where findings of the senses or scores of the frame encoder can answer it.

Only the form of the question is read, by a small grammar; what it asks about may be any words. A question of another
form, or in another language, is the language model's.
"""

import re
from dataclasses import dataclass
from typing import Literal

from videollm.models.notes import plural
from videollm.senses.detector import NAMES

Asks = Literal[
    "speech", "speaks", "when", "heard", "sound", "written", "count", "exists", "who", "describe", "greeting"
]

# Any of these may be asked for; which of them somebody is, the detector does not know.
PEOPLE = frozenset({"person", "people", "anyone", "anybody", "someone", "somebody", "human", "human being"})
KINDS_OF_PEOPLE = frozenset(
    {"man", "men", "woman", "women", "boy", "girl", "child", "children", "baby", "kid", "lady", "guy", "adult"}
)
_SCENES = re.compile(r"\b(different|things?|objects?|subjects?|items?|scenes?|shots?|seconds|minutes|times)\b")
_ARTICLE = r"(?:a |an |any |some |the )?"
_WHERE = r"(?: (?:visible|shown|present|here|anywhere|(?:in|on|during|inside) (?:the|this|it|that)\b.*))?"
_VIDEO = r"(?:the|this) (?:video|clip|film|movie|scene|picture|image)"
_EXISTS = tuple(
    re.compile(form)
    for form in (
        rf"(?:is|are|was|were) there {_ARTICLE}(.+?){_WHERE}",
        rf"(?:do|can|could|did) (?:you|we) see {_ARTICLE}(.+?){_WHERE}",
        rf"(?:does|did) {_VIDEO} (?:show|contain|include|have) {_ARTICLE}(.+?){_WHERE}",
        rf"(?:do|does|did) {_ARTICLE}(.+?) appear{_WHERE}",
        rf"(?:is|are) {_ARTICLE}(.+?) (?:visible|shown|present|seen|in {_VIDEO}){_WHERE}",
    )
)
_COUNT = re.compile(
    r"(?:how many|count the|what is the number of) (.+?)"
    r"(?: (?:are|is|were|was|do|does|did|can|could|appear|in|there|you)\b.*)?"
)
_WRITING = re.compile(r"\b(signs?|text|written|writing|labels?|screen|title|letters)\b")
_READ = re.compile(r"\b(says?|written|writing|reads?|text)\b")
_GREETING = re.compile(r"(?:hello|hi|hey|good (?:morning|afternoon|evening)|thanks|thank you)(?: there)?")
_WORDS = re.compile(
    r"\b(said|says|saying|speaks?|speaking|spoken|speech|talks?|talking|talked|voices?|transcript|narrat\w+|dialog\w*"
    r"|conversation)\b|\bwhat (?:do|does|did) .* say\b"
)
_SOUND = re.compile(r"\b(hear|heard|sounds?|audio|nois\w+|listen|music|songs?|sing\w*|loud\w*)\b")
_OTHER_SOUND = re.compile(r"\b(nois\w+|music|songs?|sing\w*|loud\w*)\b")
_ANY_SOUND = re.compile(r"\b(anything|something|sounds?|audio)\b(?! of)")
_YES_OR_NO = re.compile(r"(is|are|was|were|does|do|did|can|has|have)\b")
_WHEN = re.compile(r"(when|at what time|from when)\b")
_DESCRIBE = re.compile(
    r"(?:please |can you |could you )?(?:describe|caption|summari[sz]e|"
    r"(?:write|give) (?:me )?a (?:short )?(?:caption|description|summary))\b.*"
    r"|what(?:'s| is| does| do| can| are)? .*\b(?:in (?:it|this|the (?:video|clip|film))|show|shown here|see|visible|"
    r"happening|happens|going on|about|appears?)\b.*"
    r"|(?:tell me|list|name) .*"
)
_ONE_TIME = re.compile(r"\b(first|last|begin\w*|start\w*|end|ends|before|after|when|times?|timeline|each|at \d)\b")
_CLOCK = re.compile(r"\bat (\d+):(\d\d)\b")
_TIME = r"(?<![\d:.])(\d{1,3}:[0-5]\d(?::[0-5]\d)?)(?!:?\d)"
_SPAN = re.compile(rf"{_TIME}(?: ?(?:to|until|and|-|\u2013) ?{_TIME})?")
_SINGULARS = {plural(name): name for name in NAMES}


@dataclass(frozen=True, slots=True)
class Question:
    """asks: what for. thing: the words that it is about, in the singular where they name something the detector knows.
    time_s: the one time that is asked about, None for the whole video. quoted: words in quotation marks."""

    asks: Asks
    thing: str = ""
    time_s: float | None = None
    quoted: str = ""


def asked_time(text: str) -> float | None:
    """The one time, in seconds, that a question is about; None if it names none or several."""
    clocks = _CLOCK.findall(text)
    return 60.0 * int(clocks[0][0]) + int(clocks[0][1]) if len(clocks) == 1 else None


def told_spans(answer: str) -> list[tuple[float, float]]:
    """The times that an answer gives, in seconds: spans such as "0:04 to 0:08", and moments, whose ends are equal."""
    spans = [(_seconds(span[1]), _seconds(span[2] or span[1])) for span in _SPAN.finditer(answer)]
    return [(start, max(start, end)) for start, end in spans]


def _seconds(time: str) -> float:
    return sum(60.0**place * int(part) for place, part in enumerate(reversed(time.split(":"))))


def read_question(text: str) -> Question | None:
    """The question, None where its form is not one of these."""
    time_s, quoted = asked_time(text), re.search('["\u201c](.+?)["\u201d]', text)
    words = " ".join(_CLOCK.sub("", text).lower().replace("\u2019", "'").strip(" ?.!\n").split())
    if asks := _about_sound(words):
        return Question(asks, words, time_s, quoted[1] if quoted else "")
    if found := _COUNT.fullmatch(words):
        return None if _SCENES.search(found[1]) else Question("count", singular(found[1]), time_s)
    for form in _EXISTS:
        if found := form.fullmatch(words):
            several = re.search(r" (?:or|and) ", found[1])
            return None if several else Question("exists", singular(found[1]), time_s)
    if _GREETING.fullmatch(words):
        return Question("greeting")
    if re.match(r"(?:what|which|read)\b", words) and _WRITING.search(words) and _READ.search(words):
        return Question("written", words, time_s)
    if re.match(r"who\b", words):
        return Question("who", time_s=time_s)
    if _DESCRIBE.fullmatch(words) and not _ONE_TIME.search(words) and time_s is None:
        return Question("describe")
    return None


def _about_sound(words: str) -> Asks | None:
    if _WRITING.search(words) or not (_WORDS.search(words) or _SOUND.search(words)):
        return None
    if _OTHER_SOUND.search(words) or words.startswith("how"):
        return "sound"
    if _WHEN.match(words):
        return "when"
    if not _WORDS.search(words):
        one_sound = _YES_OR_NO.match(words) and not _ANY_SOUND.search(words)
        return "sound" if one_sound else "heard"
    return "speaks" if _YES_OR_NO.match(words) else "speech"


def asks_yes_or_no(words: str) -> bool:
    return _YES_OR_NO.match(words) is not None


def singular(thing: str) -> str:
    return _SINGULARS.get(thing, thing)


def is_person(thing: str) -> bool:
    """Whether somebody is asked for, with whatever else is said of them: "person", "man in a red coat"."""
    return any(word in PEOPLE | KINDS_OF_PEOPLE for word in (thing, *thing.split()[:1]))
