"""Labels are exactly the answers, token by token, under chat templates that behave as published ones do: ChatML,
Llama's, Mistral's, which moves a system message, and Gemma's, which refuses one."""

import pytest

from videollm.datasets.schema import Message
from videollm.models.language import CHATML, debug_tokenizer
from videollm.models.processor import IGNORE, Processor
from videollm.presets import DEBUG

LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set talk = messages[1:] %}"
    "{%- else %}{%- set talk = messages %}{%- endif %}{{- bos_token }}{%- for m in talk %}"
    "{%- if m['role'] == 'user' %}{%- if loop.last and system is defined %}"
    "{{- '[INST] ' + system + '\n\n' + m['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + m['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- ' ' + m['content'] + '</s>' }}{%- endif %}{%- endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role'])"
    " + '\n' + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TALK = [
    Message("user", "What is it?"),
    Message("assistant", "A cat."),
    Message("user", "And then?"),
    Message("assistant", "Coffee.\nHot."),
]
SYSTEM = DEBUG.prompt.system
# What is learnt stands in brackets.
EXPECTED = {
    "chatml": (CHATML, "<|im_end|>", (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
        "A cat.<|im_end|>", "\n<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\n",
        "Coffee.\nHot.<|im_end|>", "\n")),
    "llama": (LLAMA, "<|eot_id|>", (
        f"<|im_start|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nWhat is it?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "A cat.<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nAnd then?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n", "Coffee.\nHot.<|eot_id|>", "")),
    "mistral": (MISTRAL, "</s>", (
        f"<|im_start|>[INST] {SYSTEM}\n\nWhat is it?[/INST]", " A cat.</s>", "[INST] And then?[/INST]",
        " Coffee.\nHot.</s>", "")),
    "gemma": (GEMMA, "<end_of_turn>", (
        f"<|im_start|><start_of_turn>user\n{SYSTEM}\n\nWhat is it?<end_of_turn>\n<start_of_turn>model\n",
        "A cat.<end_of_turn>", "\n<start_of_turn>user\nAnd then?<end_of_turn>\n<start_of_turn>model\n",
        "Coffee.\nHot.<end_of_turn>", "\n")),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_labels_token_by_token(name: str):
    template, end, parts = EXPECTED[name]
    tokenizer = debug_tokenizer()
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"additional_special_tokens": [end]})
    prompt = Processor(tokenizer, DEBUG)(TALK)
    ids, labels = [], []
    for i, part in enumerate(parts):
        tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
        ids += tokens
        labels += tokens if i % 2 else [IGNORE] * len(tokens)
    assert tokenizer.decode(prompt.ids) == tokenizer.decode(ids)
    assert prompt.ids == ids
    assert prompt.labels == labels
    asked = Processor(tokenizer, DEBUG)(TALK[:3])
    assert prompt.ids[: len(asked)] == asked.ids
