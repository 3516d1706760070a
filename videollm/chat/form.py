"""How an answer is to be written: in one word, in upper case or as a list; and questions in other languages.

A small language model does not follow such instructions. They are read from the question or the system message by their
usual wordings, taken out of the question, and carried out on the finished answer. A language other than English is
declined.
"""

import re
from dataclasses import dataclass

ENGLISH_ONLY = "I answer in English only."
# What is said to a question in another language, in that language.
DECLINED = {
    "Chinese": "我只懂英语。请用英语提问。",
    "French": "Je ne comprends que l'anglais. Posez la question en anglais, s'il vous plaît.",
    "German": "Ich verstehe nur Englisch. Bitte fragen Sie auf Englisch.",
    "Spanish": "Solo entiendo inglés. Pregunte en inglés, por favor.",
}
UNREAD = "I understand English only. Please ask in English."

# Frequent words that the others of these languages, and English, do not have.
_FUNCTION_WORDS = {
    "English": "the|is|are|what|who|how|there|of|and|does|this|that|you|it|with|when|where",
    "French": "est|ce|il|y|une|le|les|des|du|dans|cette|combien|qui|voit|quoi|sont|et|où|personnes",
    "German": "ist|sind|der|das|dem|den|ein|eine|wie|viele|wer|wo|gibt|zu|auf|im|und|nicht|sieht|personen",
    "Spanish": "hay|una|el|los|las|qué|se|ve|en|este|esta|cuántas|cuántos|quién|es|y|personas",
}
_TONGUES = (
    "arabic|chinese|czech|danish|dutch|finnish|french|german|greek|hindi|italian|japanese|korean|mandarin|norwegian"
    "|polish|portuguese|russian|spanish|swedish|turkish"
)
_ASKED = (
    r"(?:[,;]? *\b(?:please )?(?:(?:answer|reply|respond|write|say it)(?: me| it| this| the question)?|give (?:me )?"
    r"(?:an?|the|your) answer|use)(?: only)? *)?"
)
_AFTER = r"(?: only)?(?:,? please)?[ .:,!]*"
_FORMS = {
    "one_word": re.compile(
        rf"{_ASKED}(?:\b(?:in|with|using|as) (?:just |only |exactly )?|^)(?:one|a single) word\b{_AFTER}"
        rf"|[,;]? *\b(?:give (?:me )?)?(?:an? )?(?:one|single)[ -]word (?:only|answer)\b{_AFTER}",
        re.I,
    ),
    "upper": re.compile(
        rf"{_ASKED}\b(?:in|with|use) (?:all )?(?:upper[ -]?case|capitals|capital letters|caps)(?: letters)?\b{_AFTER}",
        re.I,
    ),
    "listed": re.compile(
        rf"{_ASKED}\b(?:as|in|with) (?:an? )?(?:bullet(?:ed)? |short )?(?:list|bullets|bullet points)\b{_AFTER}",
        re.I,
    ),
    "language": re.compile(rf"{_ASKED}\bin (?:{_TONGUES})\b{_AFTER}$", re.I),
}
# "Is there a sign in German?" asks about the sign.
_IMPERATIVE = re.compile(r"\b(answer|reply|respond|write|say|describe|summari[sz]e|caption|tell|list|name)\b", re.I)
_ARTICLE = re.compile(r"(?:a|an|the|some|perhaps)\s+", re.I)
_SEEN = r" (?:is|are|was|were) seen\b"
_AND = r" and (?=\d|an? )"  # before the last of several things that are seen
_SEVERAL = re.compile(r"[^.:\"]+: [^.:\"]+\. [^.:\"]+: ")  # "Cat: No. Dog: Yes."
_COUNT = re.compile(rf"(\d+) (?!.*{_SEEN})[\w ]+?(?: at once, at most)?\.")


@dataclass(frozen=True, slots=True)
class Form:
    """The form that an answer is to have.

    Attributes:
        one_word, upper, listed: Whether it is to be one word, in upper case, or a list of lines.
        language: Whether another language than English is asked for, which is declined.
    """

    one_word: bool = False
    upper: bool = False
    listed: bool = False
    language: bool = False

    @property
    def is_free(self) -> bool:
        """Whether nothing is asked for, so that an answer can be shown as it is made."""
        return not (self.one_word or self.upper or self.listed or self.language)

    def merged(self, other: "Form") -> "Form":
        """Returns what either of two instructions asks for."""
        return Form(
            self.one_word or other.one_word,
            self.upper or other.upper,
            self.listed or other.listed,
            self.language or other.language,
        )

    def applied(self, text: str) -> str:
        """Returns an answer in this form. Quoted words are not cut to one word."""
        if self.one_word:
            text = _one_word(text)
        elif self.listed:
            text = _lines(text)
        if self.language:
            text = f"{ENGLISH_ONLY} {text}"
        return text.upper() if self.upper else text


def read_form(text: str) -> tuple[str, Form]:
    """Returns a text without instructions about the form of an answer, and the form that they ask for."""
    asked = {}
    for name, form in _FORMS.items():
        shorter = form.sub(" ", text) if name != "language" or _IMPERATIVE.search(text) else text
        asked[name] = shorter != text
        text = shorter
    question = " ".join(text.split()) if any(asked.values()) else text
    asked["listed"] |= re.match(r"list\b", question, re.I) is not None
    return question, Form(**asked)


def declined(question: str) -> str | None:
    """Returns what is said to a question that is not English, None if it may be English."""
    letters = [letter for letter in question if letter.isalpha()]
    foreign = sum(letter > "\u024f" for letter in letters)  # beyond Latin letters with accents
    if letters and 2 * foreign > len(letters):
        chinese = all("\u4e00" <= letter <= "\u9fff" for letter in letters if letter > "\u024f")
        return DECLINED["Chinese"] if chinese else UNREAD
    if "\u00bf" in question or "\u00a1" in question:  # the marks that begin a Spanish question or exclamation
        return DECLINED["Spanish"]
    words = question.lower()
    hits = {name: len(set(re.findall(rf"\b(?:{known})\b", words))) for name, known in _FUNCTION_WORDS.items()}
    best = max(hits, key=lambda language: hits[language])
    return DECLINED[best] if best != "English" and hits[best] >= 2 else None


def _one_word(text: str) -> str:
    """Yes, no, a number, or the last word of the first thing that is named."""
    if count := _COUNT.fullmatch(text):
        return count[1]
    if _SEVERAL.match(text):
        return text
    first = re.split(rf"[.,;:]|\bthen\b|{_AND}|{_SEEN}", text)[0].strip()
    words = _ARTICLE.sub("", first).split()
    if '"' in text or not words or (len(words) > 3 and not words[0].isdigit()):
        return "Unknown." if text.startswith("I cannot tell") else text
    return words[-1].capitalize()


def _lines(text: str) -> str:
    """One line for each thing that is named in the sentences of a description, and for each other sentence."""
    if re.match(r"(?:yes|no|i cannot)\b", text, re.I):
        return text
    shown, *said = re.split(r'\s*(?=At [\d:]+ (?:someone says|it reads): ")', text, maxsplit=1)
    items = [item for item in re.split(rf",? then |, (?=\d)|{_AND}|\.(?:\s+|$)", shown) if item] + said
    if len(items) < 2:
        return text
    return "\n".join(f"- {re.sub(_SEEN, '', item)}" for item in items)
