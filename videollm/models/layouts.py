"""The prompts of published systems: a chat template for each, and the position of the video in a question.

The language models of these systems are published without a chat template, and their tokenizers do not say where a
video is placed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from videollm.config import PromptLayoutName
from videollm.models.published.video_chatgpt_text import SYSTEM as VIDEO_CHATGPT_SYSTEM
from videollm.models.published.video_llama_text import DEMO_SYSTEM as VIDEO_LLAMA_SYSTEM
from videollm.models.published.video_llama_text import PLACEHOLDER, SOUND_AND_VIDEO, frames_message

VIDEO, AUDIO = "{video}", "{audio}"


@dataclass(frozen=True, kw_only=True)
class PromptLayout:
    """The prompt of one published system.

    Attributes:
        template: A chat template in Jinja that knows system messages.
        system: The published system message.
        video: The text around a video. Its tokens replace "{video}", and a sentence with the times of its frames
            replaces "{times}".
        image: The text around an image.
        audio: The text around the audio and the frames of a video that is heard, whose tokens replace "{audio}" and
            "{video}". Empty for a system that does not hear.
        place: Whether the video comes before or after the question.
        strips: Whether the text beside a special token loses its outer spaces, as it does beside the tokens that
            Video-ChatGPT added.
    """

    template: str
    system: str
    video: str
    image: str
    audio: str = ""
    place: Literal["before", "after"] = "before"
    strips: bool = False

    def video_text(self, times_s: Sequence[float]) -> tuple[str, str]:
        """Returns the text before and the text after a video's tokens, given the times of its frames in seconds. A
        single frame is an image."""
        message = frames_message([round(1000 * time) for time in times_s], fps=1000)
        text = self.video if len(times_s) > 1 else self.image
        before, after = text.replace("{times}", message).split(VIDEO)
        return before, after

    def audio_text(self) -> tuple[str, str, str]:
        """Returns the text before the audio tokens of a video, between them and its visual tokens, and after these."""
        before, rest = self.audio.split(AUDIO)
        between, after = rest.split(VIDEO)
        return before, between, after


def _template(start: str, user: str, assistant: str, answer: str, between: str = "") -> str:
    """Returns a chat template, in Jinja.

    Args:
        start: The beginning of the prompt. "SYSTEM" stands for the system message.
        user: A question. "TEXT" stands for the content.
        assistant: The text before an answer, which also asks for one.
        answer: The answer after `assistant`. "TEXT" stands for the content.
        between: What stands before every question but the first.
    """

    def expression(text: str) -> str:
        parts = re.split("(SYSTEM|TEXT)", text)
        names = {"SYSTEM": "system.value", "TEXT": "message['content']"}
        return " + ".join(names.get(part) or repr(part) for part in parts if part)

    return (
        "{% set system = namespace(value='', asked=false) %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% set system.value = message['content'] %}{% endif %}{% endfor %}"
        f"{{{{ bos_token + {expression(start)} }}}}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}"
        f"{{% if system.asked %}}{{{{ {between!r} }}}}{{% endif %}}{{% set system.asked = true %}}"
        f"{{{{ {expression(user)} }}}}"
        f"{{% elif message['role'] == 'assistant' %}}{{{{ {expression(assistant + answer)} }}}}{{% endif %}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {expression(assistant)} }}}}{{% endif %}}"
    )


HEARD_AND_SEEN = f"{SOUND_AND_VIDEO} ".replace(PLACEHOLDER, AUDIO, 1).replace(PLACEHOLDER, VIDEO)

LAYOUTS: dict[PromptLayoutName, PromptLayout] = {
    "video_llama": PromptLayout(
        template=_template("SYSTEM###", "Human: TEXT###", "Assistant:", " TEXT###"),
        system=VIDEO_LLAMA_SYSTEM,
        video=f"<Video>{VIDEO}</Video> {{times}} ",
        image=f"<Image>{VIDEO}</Image>  ",
        audio=HEARD_AND_SEEN,
    ),
    "video_llama_2": PromptLayout(
        template=_template(
            "[INST] <<SYS>>\nSYSTEM\n<</SYS>>\n\n", "TEXT ", "[/INST]", " TEXT </s>", between="<s>[INST] "
        ),
        system=VIDEO_LLAMA_SYSTEM,
        video=f"<Video>{VIDEO}</Video> {{times}} ",
        image=f"<Image>{VIDEO}</Image>  ",
        audio=HEARD_AND_SEEN,
    ),
    "video_chatgpt": PromptLayout(
        template=_template("SYSTEM ", "USER: TEXT ", "ASSISTANT:", " TEXT</s>"),
        system=VIDEO_CHATGPT_SYSTEM,
        video=f"\n<vid_start>{VIDEO}<vid_end>",
        image=f"\n<vid_start>{VIDEO}<vid_end>",
        place="after",
        strips=True,
    ),
    "videochat2": PromptLayout(
        template=_template("SYSTEM###", "Human: TEXT\n###", "Assistant:", " TEXT###"),
        system="",
        video=f"<Video>{VIDEO}</Video>\n###Human: ",
        image=f"<Image>{VIDEO}</Image>\n###Human: ",
    ),
}
