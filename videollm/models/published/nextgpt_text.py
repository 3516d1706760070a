"""What NExT-GPT's published form reads as text, in training and in its demo, to the character, and which tokens it
learns (`NExT-GPT-Lagacy/code/model/common/utils.py` and `anyToImageVideoAudio.py`).

Every piece of a text is tokenised by itself. A row is (ids, labels); a sentinel stands for a picture, video or sound.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from videollm.models.labels import IGNORE
from videollm.models.published.llama import BOS_ID
from videollm.models.published.nextgpt_base import SENTINELS
from videollm.output_config import LETTERS, Modality

Tokenize = Callable[[str], list[int]]  # without BOS; the signal tokens, "<Img>" and "</Img>" are tokens
Row = tuple[list[int], list[int]]

SENTINEL = {modality: sentinel for sentinel, modality in SENTINELS.items()}
CAPTION_REQUEST = "generate a caption"
END = "\n###"
ANSWER = "\n### Assistant: "


@dataclass(frozen=True, kw_only=True)
class SignalTurn:
    """A question and its answer. signal: what the answer shows beside its text."""

    question: str
    answer: str
    signal: Modality | None = None


def signal_text(modality: Modality, count: int) -> str:
    """[IMG0] [IMG1] ..."""
    return " ".join(f"[{LETTERS[modality]}{i}]" for i in range(count))


def describe_row(caption: str, medium: Modality, tokenize: Tokenize) -> Row:
    """Stage 1: the caption of a medium is learnt."""
    before = [BOS_ID, *tokenize("### Human: <Img>"), SENTINEL[medium]]
    return _joined(
        [(before, False), (tokenize(f"</Img> {CAPTION_REQUEST}{ANSWER}"), False), (tokenize(caption + END), True)]
    )


def signal_row(caption: str, modality: Modality, count: int, tokenize: Tokenize) -> Row:
    """Stage 2: the caption is learnt again, followed by the signal tokens."""
    before = [BOS_ID, *tokenize("### Human: ")]
    shown = tokenize(f"{caption}{signal_text(modality, count)}{END}")
    return _joined([(before, False), (tokenize(f"{caption}{ANSWER}"), False), (shown, True)])


def conversation_row(
    turns: Sequence[SignalTurn], medium: Modality | None, counts: dict[Modality, int], tokenize: Tokenize
) -> Row:
    """Stage 3: answers are learnt, with their signal tokens. medium: what the first question shows."""
    pieces = [([BOS_ID, *tokenize("### Human: <Img>"), SENTINEL[medium]], False)] if medium else []
    if not medium:
        pieces = [([BOS_ID, *tokenize("### Human: ")], False)]
    for number, turn in enumerate(turns):
        start = "Human: " if number else "</Img> " if medium else ""
        pieces.append((tokenize(f"{start}{turn.question}{ANSWER}"), False))
        signals = signal_text(turn.signal, counts[turn.signal]) if turn.signal else ""
        pieces.append((tokenize(f"{turn.answer}{signals}{END}"), True))
    return _joined(pieces)


def prompt_ids(prompt: str, tokenize: Tokenize) -> list[int]:
    """The demo's prompt. Media are written as "<Image>FILE</Image> " and so on; every piece of text begins with BOS."""
    ids: list[int] = []
    for piece in re.split(" <|> ", f"{prompt}\n### Assistant:"):
        medium = next((m for m in SENTINEL if piece.startswith(f"{m.capitalize()}>")), None)
        if medium is None:
            ids += [BOS_ID, *tokenize(piece)]
        else:
            ids += [*tokenize("<Img>"), SENTINEL[medium], *tokenize("</Img>")]
    return ids


def _joined(pieces: Sequence[tuple[list[int], bool]]) -> Row:
    """pieces: ids, and whether they are learnt."""
    ids = [token for piece, _ in pieces for token in piece]
    labels = [token if learnt else IGNORE for piece, learnt in pieces for token in piece]
    return ids, labels
