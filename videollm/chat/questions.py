"""What an English question asks for, where findings of the senses or scores of the frame encoder can answer it.

Only the form of the question is read, by a small grammar; what it asks about may be any words. A question of another
form, or in another language, is the language model's.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from videollm.models.notes import plural
from videollm.senses.detector import NAMES

Asks = Literal[
    "speech",
    "speaks",
    "language",
    "when",
    "heard",
    "sound",
    "written",
    "count",
    "compare",
    "exists",
    "which",
    "who",
    "describe",
    "greeting",
    "unknown",
]

# Any of these may be asked for; which of them somebody is, the detector does not know.
PEOPLE = frozenset(
    {"person", "persons", "people", "anyone", "anybody", "someone", "somebody", "human", "humans", "human being"}
)
KINDS_OF_PEOPLE = frozenset(
    {"man", "men", "woman", "women", "boy", "girl", "child", "children", "baby", "kid", "lady", "guy", "adult"}
)
_SCENES = re.compile(r"\b(different|things?|objects?|subjects?|items?|scenes?|shots?|seconds|minutes|times)\b")
_ARTICLE = r"(?:a |an |any |some |the )?"
_VIDEO = r"(?:the|this) (?:whole |entire )?(?:video|clip|film|movie|scene|picture|image|frames?|shot|footage|recording)"
_WHERE = (
    rf"(?: (?:visible|shown|present|here|anywhere|in (?:it|this|that)|(?:in|on|during|inside) {_VIDEO}"
    r"|on (?:the )?screen))*"
)
_EXISTS = tuple(
    re.compile(form)
    for form in (
        rf"(?:is|are|was|were) there {_ARTICLE}(.+?){_WHERE}",
        rf"(?:do|can|could|did) (?:you|we|i) see {_ARTICLE}(.+?){_WHERE}",
        rf"(?:does|did) {_VIDEO} (?:show|contain|include|have) {_ARTICLE}(.+?){_WHERE}",
        rf"(?:do|does|did) {_ARTICLE}(.+?) appear{_WHERE}",
        rf"(?:is|are|can|could) {_ARTICLE}(.+?) (?:visible|shown|present|(?:be )?seen|in (?:it|{_VIDEO})){_WHERE}",
        rf"(?:is|are) (any(?:one|body)|some(?:one|body)|no(?:body| one)|people) (?:there|here){_WHERE}",
        r"is (?:it|this|that) (?:an?|the|some) (.+?)",
        r"are (?:these|those|they) (.+?)",
        r"any (.+?)",
    )
)
_COUNT = re.compile(
    r"(?:how many|count the|what is the number of) (.+?)"
    r"(?: (?:are|is|were|was|do|does|did|can|could|appear|in|there|you)\b.*)?"
)
COMPARED = re.compile(
    rf"(?:is|are|was|were|do you|do we|can you)(?: there| see)? (more|fewer|less|as many) {_ARTICLE}(.+?) (?:than|as) "
    rf"{_ARTICLE}(.+?){_WHERE}"
)
_WRITING = re.compile(r"\b(signs?|text|written|writing|labels?|screen|title|letters)\b")
_READ = re.compile(r"\b(says?|written|writing|reads?|text)\b")
_GREETING = re.compile(
    r"(?:hello|hi|hey|good (?:morning|afternoon|evening)|thanks|thank you|ok|okay|yes|no|cool|great|nice)?(?: there)?"
    r"|help|who are you|what (?:can|do) you (?:do|know)|what can i ask(?: you)?"
)
# What no sense and no score knows: what somebody or something does, looks like or feels, where it is, and why.
_DOES = (
    r"(?:doing|wearing|holding|carrying|eating|drinking|playing|cooking|making|using|feeling|thinking|riding"
    r"|(?:look|point|mov|sitt|stand|walk|runn)ing|made of)"
)
_IS = r"(?:is|are|was|were)"
_PLACE = (
    r"(?:on(?! (?:the )?screen)|under|behind|beside|next to|near|above|below|inside|around|in front of|in the hands? of"
    r"|(?:on|to) the (?:left|right|other side) of)"
)
_FRAMED = (
    r"(?:whole |entire |first |last |next )?(?:video|clip|film|movie|scene|picture|image|frame|shot|screen|part|half)"
)
_UNKNOWN = re.compile(
    r"(?:why|where(?! in))\b.*|how (?:old|tall|big|large|small|heavy|far|fast|hot|cold|deep|high|expensive)\b.*"
    rf"|(?:of )?(?:what|which) colou?rs?\b.*|(?:what|which|who) (?:is|are|was|were) (?!we\b|you\b).*\b{_DOES}\b.*"
    rf"|(?:what|who) {_IS} {_PLACE} .*|what {_IS} (?:in|on) (?:the|its|his|her|their|an?) (?!{_FRAMED}).*"
    rf"|who (?!is\b|are\b|was\b|were\b|can\b|could\b|do\b|does\b|did\b|appears?\b|else\b).*"
    rf"|what {_IS} \d.*|what {_IS} missing.*|(?:does|did) the number of .*"
    # What has a time or a place in the order is read by `videollm.chat.order_questions`.
    r"|(?:when|at (?:what|which) time|how (?:long|often|many (?:times|seconds|minutes)))\b.*|(?:what|anything) else\b.*"
    r"|what (?:happens|comes|will happen) next\b.*|.*\b(?:unusual|strange|funny|interesting|background|middle)\b.*"
    r"|what (?:is|was) the (?:weather|season|mood|temperature)\b.*|what (?:time of (?:day|year)|season|year)\b.*"
    r"|what (?:does|do|did) .+ (?:do|wear|hold|carry|eat|drink|feel|want|use|look like)(?: .*)?"
)
_ORDER = re.compile(r"\b(change\w*|first|last|before|after|then|longer|between)\b")
_KIND = (
    r"(?!(?:is|are|was|were|do|does|did|can|could|has|have|else|times?|parts?|things?|objects?|subjects?|items?)\b)"
    r"([a-z]+(?: [a-z]+)?)"
)
_WHICH = re.compile(
    rf"(?:what|which) (?:(?:kind|type|sort|species)s? of )?{_KIND} (?:is|are|was|were|can|do|does|appears?)\b.*"
    rf"|which {_KIND}"
)
_WORDS = re.compile(
    r"\b(said|says|saying|speaks?|speaking|spoken|speech|talks?|talking|talked|voices?|transcript|narrat\w+|dialog\w*"
    r"|conversation)\b|\bwhat (?:do|does|did) .* say\b"
)
_SPEAKER = (
    r"(?:any(?:one|body)|some(?:one|body)|people|he|she|they"
    r"|the (?:speaker|narrator|voice|person|people|man|woman|boy|girl|child|video|audio)s?)"
)
_MENTIONED = [
    re.compile(form)
    for form in (
        rf"(when )?(?:do|does|did) {_SPEAKER} (?:ever )?"
        rf"(?:say|mention|(?:talk|speak) (?:of|about)|refer to) {_ARTICLE}(.+?){_WHERE}",
        rf"(when )?(?:is|are|was|were) {_ARTICLE}(.+?) (?:ever )?"
        rf"(?:said|mentioned|(?:talked|spoken) (?:of|about)|referred to){_WHERE}",
        rf"(when )?(?:is|are|was|were) (?:any|some)thing (?:ever )?(?:said|mentioned) about {_ARTICLE}(.+?){_WHERE}",
    )
]
_ANYTHING = re.compile(r"(?:any|some|no)thing|words?")
_ABOUT_A_WORD = re.compile(rf"^(?:(?:any|some)thing (?:about|of|on) {_ARTICLE}|(?:the )?(?:words?|phrase|name) (?=.))")
_LANGUAGE = re.compile(
    r"\b(?:languages?|english|spanish|french|german|chinese|italian|portuguese|russian|japanese|korean|arabic|hindi)\b"
)
_OF_TRANSCRIPT = re.compile(r"^how\b|\b(?:twice|once|first|last|translate\w*)\b")  # words are not counted here
# Between two questions: "Who is there, and what do they say?".
_BETWEEN = re.compile(r"\?\s+(?=\w)|,? and (?=(?:who|what|when|how many|is|are|do|does)\b)", re.IGNORECASE)
_SOUND = re.compile(r"\b(hear|heard|sounds?|audio|nois\w+|listen|music|songs?|sing\w*|loud\w*)\b")
_OTHER_SOUND = re.compile(r"\b(nois\w+|music|songs?|sing\w*|loud\w*)\b")
_ANY_SOUND = re.compile(r"\b(anything|something|sounds?|audio)\b(?! of)")
_YES_OR_NO = re.compile(r"(is|are|was|were|does|do|did|can|has|have)\b")
_WHEN = re.compile(r"(when|from when)\b")
_AT_WHAT_TIME = re.compile(
    r"^(?:(?:at )?what time|at (?:what|which) (?:point|moment|second|minute|time|timestamp)(?: in (?:the|this) video)?"
    r"|between (?:what|which) times|from when (?:to|until|till) when)\b"
)
_POLITE = re.compile(
    r"(?:please |(?:can|could|would) you (?:please )?)"
    r"(?=(?:describe|caption|summari[sz]e|write|give|tell|list|name|count|read)\b)"
)
_NAME = re.compile(r"(?:name|identify) the (?!things?\b|objects?\b|items?\b)([a-z]+)")
_FILLER = re.compile(
    r"^(?:(?:so|and|but|ok|okay|well|now|also|hi|hello|hey)[,!.]? )+"
    r"(?=(?:how|is|are|what|who|which|does|do|did|can|when)\b)"
)
_NEGATED = re.compile(r"^(is|are|was|were|do|does|did|can|could)n't\b")
_TAG = re.compile(
    r"[,.]? (?:right|am i right|is that right|correct|yes|(?:is|are|was|were|does|do|did)n't (?:it|there|they))"
)
_WHETHER = re.compile(
    r"(?:(?:can|could|do) you )?(?:tell me|say|check|know|see|find out) (?:whether|if) there (is|are|was|were) (.+)"
)
_ABOUT = re.compile(r"(?:and |(?:and |so )?(?:what|how) about )((?:the|an?|any) .+)")
_SHOW = re.compile(
    r"(?:show me|find|locate|(?:go|jump|skip|seek) to) (?:the|an?) "
    r"(?!(?:video|clip|film|summary|timeline|list|caption|description|transcript|end|beginning|start)\b)([\w ]+)"
)
_DESCRIBE = re.compile(
    r"(?:describe|caption|summari[sz]e|"
    r"(?:write|give) (?:me |it )?a (?:short )?(?:caption|description|summary|title|headline|tweet|post)|"
    r"what (?:do|did) you notice|tl;?dr|(?:\w+ ){0,3}keywords|"
    r"(?:give me|what(?:'s| is)) the (?:gist|essence|plot|story))\b.*"
    r"|explain (?:it|this|the (?:video|clip|film|plot|story))"
    r"|what(?:'s| is| does| do| can| are)? .*\b(?:in (?:it|this|the (?:video|clip|film))|show|shown here|see|visible|"
    r"happening|happens|going on|about|appears?)\b.*"
    r"|what(?:'s| is) (?:it|this|that|there|here|shown|on (?:the )?screen|(?:the )?(?:main )?(?:subject|topic))"
    r"|what can be seen\b.*"
    r"|what (?:are we looking at|do we have here)"
    r"|what (?:kind|sort|type) of thing is (?:it|this|that)"
    r"|(?:what|which) (?:things|objects) (?:appear|can be seen|can you (?:see|detect|find|recogni[sz]e)|lie|stand|"
    r"are (?:there|shown|seen|visible|in))\b.*"
    r"|which (?:things|objects)"
    r"|(?:tell me|list|name) .*"
)
_ONE_TIME = re.compile(r"\b(first|last|begin\w*|start\w*|end|ends|before|after|when|times?|timeline|each|at \d)\b")
_TIME = r"(?<![\d:.])\d{1,3}:[0-5]\d(?::[0-5]\d)?(?!:?\d)"
_SPAN = re.compile(rf"({_TIME})(?: ?(?:to|until|and|-|\u2013) ?({_TIME}))?")
_AT_OR_BETWEEN = re.compile(
    rf"\b(?:at (?P<at>{_TIME})|(?:between|from) (?P<start>{_TIME}) (?:and|to|until) (?P<end>{_TIME}))", re.IGNORECASE
)
_SINGULARS = {plural(name): name for name in NAMES}


@dataclass(frozen=True, slots=True)
class Question:
    """asks: what for. thing: the words that it is about, in the singular where they name something the detector knows;
    `one_by_one` divides several things. time_s, end_s: the time that is asked about, or the start and end of the part;
    None for the whole video. quoted: words in quotation marks."""

    asks: Asks
    thing: str = ""
    time_s: float | None = None
    quoted: str = ""
    end_s: float | None = None


def asked_time(text: str) -> float | None:
    """The one time, in seconds, that a question is about; None if it names none or several."""
    times_s = times_in(text)
    return times_s[0] if times_s is not None and times_s[1] is None else None


def told_spans(answer: str) -> list[tuple[float, float]]:
    """The times that an answer gives, in seconds: spans such as "0:04 to 0:08", and moments, whose ends are equal."""
    spans = [(_seconds(span[1]), _seconds(span[2] or span[1])) for span in _SPAN.finditer(answer)]
    return [(start, max(start, end)) for start, end in spans]


def times_in(text: str) -> tuple[float, float | None] | None:
    """The time or the span, in seconds, that a question names as "at 0:05" or "between 0:04 and 0:08"; None if it names
    neither or more."""
    found = [*_AT_OR_BETWEEN.finditer(text)]
    if len(found) != 1:
        return None
    start, end = found[0]["at"] or found[0]["start"], found[0]["end"]
    return _seconds(start), None if end is None else max(_seconds(start), _seconds(end))


def spoken_words(text: str) -> str:
    """The words of a question without times, politeness, capitals and final marks."""
    words = _AT_OR_BETWEEN.sub("", text).lower().replace("\u2019", "'")
    words = _POLITE.sub("", _FILLER.sub("", " ".join(words.strip(" ?.!\n").split()), count=1))
    words = _AT_WHAT_TIME.sub("when", words)
    if found := _SHOW.fullmatch(words):
        return f"when is the {found[1]} shown"
    return _asked(_NEGATED.sub(r"\1", words, count=1))


def _asked(words: str) -> str:
    """Returns other forms as the question that they are: "there is a cat, right", "tell me if there is a cat", "what
    about the cat"."""
    if found := _WHETHER.fullmatch(words):
        return f"{found[1]} there {found[2]}"
    if found := _ABOUT.fullmatch(words):
        return f"is there {found[1]}"
    statement = words[: found.start()] if (found := re.search(f"{_TAG.pattern}$", words)) else words
    if found is None:
        return words
    statement = re.sub(r"^i (?:think|believe|guess|assume) (?:that )?", "", statement)
    statement = re.sub(r"^there (is|are|was|were) ", r"\1 there ", statement)
    return re.sub(rf"^({_VIDEO}) shows ", r"does \1 show ", statement)


def _seconds(time: str) -> float:
    return sum(60.0**place * int(part) for place, part in enumerate(reversed(time.split(":"))))


def read_question(text: str) -> Question | None:
    """The question, None where its form is not one of these."""
    quoted, times_s = re.search('["\u201c](.+?)["\u201d]', text), times_in(text)
    question = _read(spoken_words(text), quoted[1] if quoted else "")
    if question is None or times_s is None:
        return question
    if question.asks == "describe":  # see `videollm.chat.order_questions`
        return None
    time_s, end_s = times_s
    return replace(question, time_s=time_s, end_s=end_s)


def questions_in(text: str) -> list[str]:
    """Each of the questions of a text that asks several."""
    return _BETWEEN.split(text.strip())


def _read(words: str, quoted: str) -> Question | None:
    if (mentioned := _about_mention(words)) is not None:
        return replace(mentioned, quoted=quoted or mentioned.quoted)
    if asks := _about_sound(words):
        return Question(asks, words, quoted=quoted)
    if found := _COUNT.fullmatch(words):
        return Question("unknown") if _SCENES.search(found[1]) else Question("count", singular(found[1]))
    if _GREETING.fullmatch(words):
        return Question("greeting")
    if COMPARED.fullmatch(words):
        return Question("compare", words)
    for form in _EXISTS:
        if found := form.fullmatch(words):
            return Question("exists", singular(found[1]))
    if re.match(r"(?:what|which|read)\b", words) and _WRITING.search(words) and _READ.search(words):
        return Question("written", words)
    if _UNKNOWN.fullmatch(words):
        return Question("unknown")
    if re.match(r"who\b", words):
        return Question("who")
    if found := _NAME.fullmatch(words):
        return Question("which", found[1])
    if (found := _WHICH.fullmatch(words)) and not _ORDER.search(words):
        return Question("which", found[1] or found[2])
    if _DESCRIBE.fullmatch(words) and not _ONE_TIME.search(words):
        return Question("describe")
    return Question("unknown") if asks_yes_or_no(words) and not _ORDER.search(words) else None


def is_description(text: str) -> bool:
    """Whether a question asks for a description of the whole video."""
    question = read_question(text)
    return question is not None and question.asks == "describe"


def _about_sound(words: str) -> Asks | None:
    if _WRITING.search(words) or not (_WORDS.search(words) or _SOUND.search(words)):
        return None
    if _LANGUAGE.search(words):
        return "language"
    if _WORDS.search(words) and _OF_TRANSCRIPT.search(words):
        return "unknown"
    if _OTHER_SOUND.search(words) or words.startswith("how"):
        return "sound"
    if _WHEN.match(words):
        return "when"
    if not _WORDS.search(words):
        one_sound = _YES_OR_NO.match(words) and not _ANY_SOUND.search(words)
        return "sound" if one_sound else "heard"
    return "speaks" if _YES_OR_NO.match(words) else "speech"


def _about_mention(words: str) -> Question | None:
    for form in _MENTIONED:
        if (found := form.fullmatch(words)) and found[2] not in ("it", "that", "this"):
            quoted = "" if _ANYTHING.fullmatch(found[2]) else _ABOUT_A_WORD.sub("", found[2].strip("'"))
            return Question("when" if found[1] else "speaks", words, quoted=quoted)
    return None


def asks_yes_or_no(words: str) -> bool:
    return _YES_OR_NO.match(words) is not None


def one_by_one(thing: str) -> list[str]:
    """Each of the things that are asked for together, without articles: "cat or a dog" is "cat" and "dog"."""
    pair = thing.split(" and ")  # without articles it may be one thing, such as "gin and tonic"
    if len(pair) == 2 and all(each in PEOPLE or singular(each) in NAMES for each in pair):
        return [singular(each) for each in pair]
    first, *others = re.split(r"(?:,? (?:and|or)|,) (?:an?|any|some|the) |,? or ", thing)
    return [re.sub(r"^(?:both|either) (?:an?|any|some|the) ", "", first), *others]


def singular(thing: str) -> str:
    return _SINGULARS.get(thing, thing)


def is_person(thing: str) -> bool:
    """Whether somebody is asked for, with whatever else is said of them: "person", "man in a red coat"."""
    return any(word in PEOPLE | KINDS_OF_PEOPLE for word in (thing, *thing.split()[:1]))
