"""The prompts of published systems: a chat template each, and where the video's tokens stand in a question.

The language models of these systems come without a chat template, and none says where a video stands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from videollm.config import PromptLayoutName
from videollm.models.published.video_chatgpt_text import SYSTEM as VIDEO_CHATGPT_SYSTEM
from videollm.models.published.video_llama_text import DEMO_SYSTEM as VIDEO_LLAMA_SYSTEM
from videollm.models.published.video_llama_text import frames_message

VIDEO = "{video}"


@dataclass(frozen=True, kw_only=True)
class PromptLayout:
    """template: a chat template (Jinja) that knows a system message. system: the published one. video: the text around
    a video's tokens, which take the place of "{video}", with when its frames were seen at "{times}". place: before or
    after the question. strips: whether the text beside a special token loses its outer spaces, as it did beside the
    tokens that Video-ChatGPT added.
    """

    template: str
    system: str
    video: str
    place: Literal["before", "after"] = "before"
    strips: bool = False

    def video_text(self, times_s: Sequence[float]) -> tuple[str, str]:
        """The text before and after a video's tokens."""
        message = frames_message([round(1000 * time) for time in times_s], fps=1000)
        before, after = self.video.replace("{times}", message).split(VIDEO)
        return before, after


def _template(start: str, user: str, assistant: str, answer: str) -> str:
    """`start` holds SYSTEM, `user` and `answer` TEXT; an answer follows `assistant`, which also asks for one."""

    def expression(text: str) -> str:
        parts = re.split("(SYSTEM|TEXT)", text)
        names = {"SYSTEM": "system.value", "TEXT": "message['content']"}
        return " + ".join(names.get(part) or repr(part) for part in parts if part)

    return (
        "{% set system = namespace(value='') %}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{% set system.value = message['content'] %}{% endif %}{% endfor %}"
        f"{{{{ bos_token + {expression(start)} }}}}"
        "{% for message in messages %}"
        f"{{% if message['role'] == 'user' %}}{{{{ {expression(user)} }}}}"
        f"{{% elif message['role'] == 'assistant' %}}{{{{ {expression(assistant + answer)} }}}}{{% endif %}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {expression(assistant)} }}}}{{% endif %}}"
    )


LAYOUTS: dict[PromptLayoutName, PromptLayout] = {
    "video_llama": PromptLayout(
        template=_template("SYSTEM###", "Human: TEXT###", "Assistant:", " TEXT###"),
        system=VIDEO_LLAMA_SYSTEM,
        video=f"<Video>{VIDEO}</Video> {{times}} ",
    ),
    "video_chatgpt": PromptLayout(
        template=_template("SYSTEM ", "USER: TEXT ", "ASSISTANT:", " TEXT</s>"),
        system=VIDEO_CHATGPT_SYSTEM,
        video=f"\n<vid_start>{VIDEO}<vid_end>",
        place="after",
        strips=True,
    ),
}
