"""Labels token by token under chat templates with the turns of five families' published ones, which differ in them."""

import pytest
import torch

from scripts.tiny_hub.__main__ import make_processor
from videollm.config import ModelConfig, PromptConfig
from videollm.datasets.schema import Message
from videollm.features.encode import SegmentFeatures
from videollm.models.hub.families import FAMILIES
from videollm.models.hub.processor import HubProcessor
from videollm.models.hub.prompt import HubPrompt
from videollm.models.labels import IGNORE

TALK = [Message("user", "Q1"), Message("assistant", "A1."), Message("user", "Q2"), Message("assistant", "A2.")]
CHATML = (
    "{% for message in messages %}FIRST{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}{{ 'VIDEO' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = [
    "<|im_start|>user\n#Q1<|im_end|>\n<|im_start|>assistant\n",
    "A1.<|im_end|>",
    "\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
    "A2.<|im_end|>",
    "\n",
]
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
PAD = "<|vision_start|><|video_pad|><|vision_end|>"


def chatml(video: str, first: str = "") -> str:
    """first: what comes before the first message."""
    before = f"{{% if loop.first %}}{{{{ '{first}' }}}}{{% endif %}}" if first else ""
    return CHATML.replace("FIRST", before).replace("VIDEO", video)


# A role is followed by a space, texts begin with a line break, and no line break follows the end of a turn.
ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The template, None for the one that the family table has, and the text: every second part is what the model writes.
# "#" is where the video's tokens stand.
EXPECTED: dict[str, tuple[str | None, list[str]]] = {
    "qwen2_vl": (chatml(PAD, SYSTEM), [SYSTEM + TURNS[0], *TURNS[1:]]),
    "qwen3_vl": (chatml(PAD), TURNS),
    "internvl": (chatml("<video>\n"), TURNS),
    "llava_onevision": (
        ONEVISION,
        [
            "<|im_start|>user #\nQ1<|im_end|><|im_start|>assistant\n",
            "A1.<|im_end|>",
            "<|im_start|>user \nQ2<|im_end|><|im_start|>assistant\n",
            "A2.<|im_end|>",
        ],
    ),
    "smolvlm": (
        None,
        [
            "<|im_start|>User: #Q1<end_of_utterance>\nAssistant:",
            " A1.<end_of_utterance>",
            "\nUser: Q2<end_of_utterance>\nAssistant:",
            " A2.<end_of_utterance>",
            "\n",
        ],
    ),
}


@pytest.mark.parametrize("family", EXPECTED)
def test_only_answers_and_their_ends_are_learned(family: str):
    template, parts = EXPECTED[family]
    processor = make_processor(family)
    if template is not None:
        processor.chat_template = template
    made = HubProcessor(processor, ModelConfig(name=family, prompt=PromptConfig(system="")), FAMILIES[family])
    pixels = torch.zeros(4, 3, 56, 56, dtype=torch.uint8)
    segment = SegmentFeatures(0.0, 4.0, pixels, torch.arange(4.0), torch.zeros(1), ())
    prompt = made(TALK, [segment])
    assert isinstance(prompt, HubPrompt)
    ids, labels = [], []
    for number, part in enumerate(parts):
        text = made.tokenizer(part.replace("#", ""), add_special_tokens=False)["input_ids"]
        ids += text
        labels += text if number % 2 else [IGNORE] * len(text)
    ((start, end),) = prompt.spans
    assert prompt.ids[:start] + prompt.ids[end:] == ids
    assert prompt.labels[:start] + prompt.labels[end:] == labels
    assert set(prompt.labels[start:end]) == {IGNORE} and end > start
    before = made.tokenizer(parts[0].partition("#")[0], add_special_tokens=False)["input_ids"]
    assert prompt.ids[:start] == before
    asked = made(TALK[:3], [segment])
    assert prompt.ids[: len(asked)] == asked.ids  # an answer is learned after what it is generated after
