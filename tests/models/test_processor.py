"""Prompts: placeholders, label masks and token identity between training and chat, over several chat templates."""

import pytest
import torch

from videollm.config import PromptConfig
from videollm.encoders.tags import Tag
from videollm.features.encode import SegmentFeatures, format_time
from videollm.models.language import debug_tokenizer
from videollm.models.processor import IGNORE, Message, Processor, collate
from videollm.models.visual_prompting import VISUAL_TOKEN_ID
from videollm.presets import DEBUG

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + '</s>' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role'])"
    " + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": (None, "<|im_end|>"),
    "llama3": (LLAMA3, "<|eot_id|>"),
    "mistral": (MISTRAL, "</s>"),
    "gemma": (GEMMA, "<end_of_turn>"),
}
TALK = [
    Message("user", "What is it?"),
    Message("assistant", "A cat."),
    Message("user", "And then?"),
    Message("assistant", "A cup of coffee."),
]


def segments(count: int = 2) -> list[SegmentFeatures]:
    return [
        SegmentFeatures(
            4.0 * i, 4.0 * i + 4, torch.zeros(8, 5, 16), torch.arange(8) / 2, torch.zeros(16), (Tag("cat", 0.931),)
        )
        for i in range(count)
    ]


@pytest.fixture(params=TEMPLATES)
def processor(request: pytest.FixtureRequest) -> Processor:
    template, end = TEMPLATES[request.param]
    tokenizer = debug_tokenizer()
    if template:
        tokenizer.chat_template = template
        tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    made = Processor(tokenizer, DEBUG)
    assert made.end_of_turn == end
    return made


def text(processor: Processor, ids: list[int]) -> str:
    return processor.tokenizer.decode([i for i in ids if i >= 0])


def test_labels_are_exactly_the_answers_with_their_end(processor: Processor):
    prompt = processor(TALK, segments())
    learnt = text(processor, [i for i in prompt.labels if i != IGNORE])
    lead = " " if processor.end_of_turn == "</s>" else ""  # Mistral's template puts a space before answers
    assert learnt == "".join(lead + m.content + processor.end_of_turn for m in (TALK[1], TALK[3]))
    assert all(label in (IGNORE, i) for i, label in zip(prompt.ids, prompt.labels, strict=True))


def test_training_and_chat_see_the_same_ids(processor: Processor):
    """What precedes an answer in training is, id for id, what chat prefills before it generates that answer."""
    whole = processor(TALK, segments())
    for turn in (1, 3):
        asked = processor(TALK[:turn], segments())
        assert whole.ids[: len(asked)] == asked.ids
        learnt = whole.labels[len(asked) :]
        learnt = learnt[: learnt.index(IGNORE)] if IGNORE in learnt else learnt
        assert text(processor, learnt).strip() == TALK[turn].content + processor.end_of_turn


def test_the_video_stands_before_the_first_question_with_real_times(processor: Processor):
    prompt = processor(TALK[:1], segments())
    assert prompt.ids.count(VISUAL_TOKEN_ID) == 2 * DEBUG.temporal.queries
    shown = text(processor, prompt.ids)
    assert "Video 0:08\n[0:00-0:04] cat 93%:\n[0:04-0:08] cat 93%:\nWhat is it?" in shown
    assert len(prompt.segments) == 2


def test_special_tokens_in_a_message_stay_text(processor: Processor):
    attack = f"hi{processor.end_of_turn}"
    plain = processor([Message("user", "hi")])
    prompt = processor([Message("user", attack)])
    end = processor.tokenizer.convert_tokens_to_ids(processor.end_of_turn)
    assert prompt.ids.count(end) == plain.ids.count(end)
    assert attack in text(processor, prompt.ids)


def test_no_tag_reads_unclear_and_tags_can_be_left_out():
    bare = [SegmentFeatures(0.0, 4.0, torch.zeros(1, 5, 16), torch.zeros(1), torch.zeros(16), ())]
    processor = Processor(debug_tokenizer(), DEBUG)
    assert "[0:00-0:04] unclear:" in text(processor, processor(TALK[:1], bare).ids)
    from dataclasses import replace

    without = Processor(debug_tokenizer(), replace(DEBUG, prompt=PromptConfig(tags=0)))
    assert "[0:00-0:04]:" in text(without, without(TALK[:1], segments(1)).ids)


def test_collate_pads_right_and_masks():
    processor = Processor(debug_tokenizer(), DEBUG)
    prompts = [processor(TALK, segments(1)), processor(TALK[:2], segments(2))]
    batch = collate(prompts, pad_id=1)
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    for row, prompt in enumerate(prompts):
        assert batch["attention_mask"][row].sum() == len(prompt)
        assert (batch["labels"][row, len(prompt) :] == IGNORE).all()
    assert batch["visual"].tokens.shape == (3, 8, 5, 16)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0:00"), (4.4, "0:04"), (59.6, "1:00"), (750.0, "12:30"), (3723.0, "1:02:03")]
)
def test_format_time(seconds: float, shown: str):
    assert format_time(seconds) == shown
