"""What Video-LLaMA reads as text, in training and in its demo, to the character, and which tokens it learns
(`datasets/datasets/video_instruct_dataset.py`, `conversation/conversation_video.py`, `processors/blip_processors.py`).

A template is "vicuna" (Video-LLaMA 1) or "llama_v2" (Video-LLaMA 2).
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

from videollm.models.labels import IGNORE

Template = Literal["vicuna", "llama_v2"]
Turn = tuple[str, str | None]  # a question and its answer, None where it is to be given
Tokenize = Callable[[str], list[int]]  # with BOS; "<s>", "</s>" and PLACEHOLDER are tokens

PLACEHOLDER = "<ImageHere>"
IMAGE_PROMPTS = tuple(
    f"<Image>{PLACEHOLDER}</Image> {request}"
    for request in (
        "Describe this image in detail.",
        "Take a look at this image and describe what you notice.",
        "Please provide a detailed description of the picture.",
        "Could you describe the contents of this image for me?",
    )
)
DEMO_SYSTEM = (
    "You are able to understand the visual content that the user provides. "
    "Follow the instructions carefully and explain your answers in detail."
)
# The runs of spaces are the indentation of a continued line in the official source.
SOUND_AND_VIDEO = (
    f"Close your eyes, open your ears and you imagine only based on the sound that: {PLACEHOLDER}.{' ' * 17}"
    f"Close your ears, open your eyes and you see that <Video>{PLACEHOLDER}</Video>.{' ' * 18}"
    "Now answer my question based on what you have just seen and heard."
)
MOST_WORDS = 50
LONGEST_CONVERSATION = 512


def frames_message(indices: Sequence[int], fps: float) -> str:
    """What says when the frames were seen: index / fps, to tenths of a second. It ends with a space."""
    times = ", ".join(str(round(index / fps, 1)) for index in indices)
    return f"The video contains {len(indices)} frames sampled at {times} seconds. "


def caption_text(caption: str) -> str:
    """A caption for training: lower case, most punctuation to spaces, 50 words at most."""
    text = re.sub(r"[.!\"()*#:;~]", " ", caption.lower())
    words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:MOST_WORDS])


def caption_prompt_text(request: str, template: Template) -> str:
    """One of IMAGE_PROMPTS inside the template of stage 2; the caption follows, then `end_of_caption`."""
    if template == "vicuna":
        return f"###Human: {request} ###Assistant: "
    return f"[INST] <<SYS>>\n \n<</SYS>>\n\n{request} [/INST] "


def end_of_caption(template: Template) -> str:
    return "###" if template == "vicuna" else "</s>"


def visual_question(question: str, tokens: int, message: str = "", *, image: bool = False) -> str:
    """The first question of a training conversation with its placeholders: a video's come before it, an image's where
    "<image>" stands."""
    if image:
        return question.replace("<image>", f"<Image>{PLACEHOLDER * tokens}</Image>")
    return f"<Video>{PLACEHOLDER * tokens}</Video> {message}{question}"


def conversation_text(turns: Sequence[Turn], template: Template) -> str:
    """A training conversation, whose first question is a `visual_question`."""
    if template == "vicuna":
        return f"\n\n{''.join(_vicuna_turns(turns))}###"
    text = "".join(f"<s>[INST] {question} [/INST] {answer} </s>" for question, answer in turns)
    return _with_system(text, " ")


def conversation_labels(turns: Sequence[Turn], template: Template, tokenize: Tokenize) -> tuple[list[int], list[int]]:
    """Ids of a training conversation, BOS first, at most 512, and their labels.

    With "vicuna" the official code counts the pieces of each turn by itself, each with its BOS and its leading space,
    which the whole text has only once: the masks drift, and the first two pieces of each question and later parts of
    the text are labelled too. The published models were trained so.
    """
    text = conversation_text(turns, template)
    ids = tokenize(text)[:LONGEST_CONVERSATION]
    labels = list(ids)
    if template == "vicuna":
        _mask_vicuna(labels, turns, tokenize)
    else:
        _mask_llama_v2(labels, text, tokenize)
    return ids, labels


def _mask_vicuna(labels: list[int], turns: Sequence[Turn], tokenize: Tokenize) -> None:
    at = len(tokenize("\n\n"))
    _ignore(labels, 0, at)
    for i, turn in enumerate(_vicuna_turns(turns)):
        length = len(tokenize(turn))
        if i % 2 == 0:
            _ignore(labels, at + 2, at + length)
        at += length


def _mask_llama_v2(labels: list[int], text: str, tokenize: Tokenize) -> None:
    at = 1
    _ignore(labels, 0, at)
    for part in text.split("</s>"):
        instruction, found, answer = part.partition("[/INST] ")
        if not found or "[/INST] " in answer:
            break
        _ignore(labels, at, at + len(tokenize(instruction + found)) - 2)
        at += len(tokenize(part))
    _ignore(labels, at, len(labels))


def _ignore(labels: list[int], start: int, end: int) -> None:
    for i in range(start, min(end, len(labels))):
        labels[i] = IGNORE


def _vicuna_turns(turns: Sequence[Turn]) -> list[str]:
    return [part for question, answer in turns for part in (f"###Human: {question}\n", f"###Assistant: {answer}\n")]


def demo_text(turns: Sequence[Turn], seen: str, template: Template, system: str = DEMO_SYSTEM) -> str:
    """The demo's prompt, up to where the model answers: `seen` and a space come before the first question.

    seen: "<Video><ImageHere></Video> " and a `frames_message`, or "<Image><ImageHere></Image> ", which leave two spaces
    before the question, or SOUND_AND_VIDEO. With sound the official system text is empty.
    """
    turns = [(f"{seen} {turns[0][0]}", turns[0][1]), *turns[1:]]
    if template == "llama_v2":
        text = "".join(
            f"<s>[INST] {question} [/INST]" + (f" {answer} </s>" if answer is not None else "")
            for question, answer in turns
        )
        return _with_system(text, system)
    text = f"{system}###"
    for question, answer in turns:
        text += f"Human: {question}###Assistant:" + (f" {answer}###" if answer is not None else "")
    return text


def _with_system(text: str, system: str) -> str:
    """LLaMA-2's system text goes inside the first instruction; the tokenizer adds the first "<s>" itself."""
    head = "<s>[INST] "
    return f"[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{text.removeprefix(head)}"


def clean_answer(text: str, template: Template) -> str:
    """What the demo shows of the generated text."""
    end, role = ("###", "Assistant:") if template == "vicuna" else ("</s>", "ASSISTANT:")
    return text.split(end)[0].split(role)[-1].strip()
