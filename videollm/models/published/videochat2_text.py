"""What VideoChat2 reads as text, in its instruction stage and in its demo, to the character
(Ask-Anything `video_chat2/dataset/it_dataset.py`, process_qa; `conversation.py`)."""

from collections.abc import Sequence

from videollm.models.published.videochat2 import Media

Turn = tuple[str, str | None]  # a question and its answer, None where it is to be given

CAPTION_REQUEST = {
    "video": "Describe the following video concisely.",
    "image": "Describe the following image concisely.",
}  # the first of each of the official lists
DEMO_INSTRUCTION = {
    "video": "Watch the video and answer the question.",
    "image": "Observe the image and answer the question.",
}  # what the Q-Former reads in the demo, whatever is asked


def caption_prompt_text(media: Media, request: str | None = None) -> str:
    """The caption stage's prompt; the caption follows, then "###". The visual tokens take the place of <VideoHere> or
    <ImageHere>."""
    name = media.capitalize()
    return f"###Human: <{name}><{name}Here></{name}> {request or CAPTION_REQUEST[media]} ###Assistant: "


def training_text(turns: Sequence[Turn], instruction: str, message: str, media: Media) -> tuple[str, str]:
    """A conversation of the instruction stage, and what the Q-Former reads: the instruction and the first question.

    The visual tokens go between <Video> and </Video>. message: when the frames were seen, for a video. An empty
    question leaves its speaker out.
    """
    name = media.capitalize()
    text = f"{instruction} " if instruction else ""
    text += f"###Human: <{name}></{name}> "
    text += f"{message.strip()} " if media == "video" and message.strip() else ""
    for question, answer in turns:
        text += f"###Human: {question} " if question else ""
        text += f"###Assistant: {answer} "
    return f"{text}###", f"{instruction} {turns[0][0]}".strip()


def demo_text(turns: Sequence[Turn], media: Media = "video", system: str = "") -> str:
    """The demo's prompt, up to where the model answers."""
    name = media.capitalize()
    text = f"{system}###Human: <{name}><{name}Here></{name}>\n"
    for question, answer in turns:
        text += f"###Human: {question}\n###Assistant:" + ("" if answer is None else f" {answer}")
    return text
