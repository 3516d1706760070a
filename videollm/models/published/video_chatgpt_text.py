"""What Video-ChatGPT reads as text, at inference and in training, to the character, and which tokens it learns
(`video_conversation.py`, `inference.py`, `train/train.py`)."""

from collections.abc import Callable, Sequence

from videollm.models.labels import IGNORE

Turn = tuple[str, str | None]  # a question and its answer, None where it is to be given
Tokenize = Callable[[str], list[int]]  # with BOS; "</s>" and the three video tokens are tokens

SYSTEM = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content that the "
    # There is no space before "Follow" in the official text either.
    "user provides, and assist the user with a variety of tasks using natural language."
    "Follow the instructions carefully and explain your answers in detail based on the provided video."
)
TRAINING_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
END = "</s>"
ANSWER = " ASSISTANT: "


def video_text(rows: int) -> str:
    """The places of a video's feature rows."""
    return f"<vid_start>{'<vid_patch>' * rows}<vid_end>"


def inference_text(turns: Sequence[Turn], rows: int) -> str:
    """The prompt of a conversation about one video, which comes after the first question, up to where the model
    answers."""
    turns = [(f"{turns[0][0]}\n{video_text(rows)}", turns[0][1]), *turns[1:]]
    return f"{SYSTEM} {_turns(turns)}"


def training_text(turns: Sequence[Turn], rows: int) -> str:
    """A training conversation, under another system text than at inference; "<video>" stands for the video, after the
    question in every other sample and before it in the rest."""
    turns = [(question.replace("<video>", video_text(rows)), answer) for question, answer in turns]
    return f"{TRAINING_SYSTEM} {_turns(turns)}"


def _turns(turns: Sequence[Turn]) -> str:
    # No space follows the end of an answer.
    return "".join(
        f"USER: {question} ASSISTANT:" + ("" if answer is None else f" {answer}{END}") for question, answer in turns
    )


def training_labels(text: str, tokenize: Tokenize) -> tuple[list[int], list[int]]:
    """Ids of a `training_text`, BOS first, and labels on its answers and their ends.

    Where the pieces of the rounds, counted each by itself, do not add up to those of the whole text, nothing is
    labelled, as in the official code.
    """
    ids = tokenize(text)
    labels = list(ids)
    at = 1
    labels[:at] = [IGNORE]
    for part in text.split(END):
        instruction, found, answer = part.partition(ANSWER)
        if not found or ANSWER in answer:
            break
        length = len(tokenize(instruction + found)) - 2  # BOS, and the space that the answer's first piece holds
        labels[at : at + length] = [IGNORE] * length
        at += len(tokenize(part))
    if at != len(ids):
        return ids, [IGNORE] * len(ids)
    return ids, labels


def clean_answer(text: str) -> str:
    """What inference returns of the generated text. The official rstrip takes any of "</s>" in any order, so an answer
    loses its last s."""
    return text.strip().rstrip(END).strip()
