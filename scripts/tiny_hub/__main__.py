"""Write a tiny random video model of transformers with its processor: `python -m scripts.tiny_hub qwen3_vl DIR`.

The directory has the files of a published model of that family, so everything that is said to work with the family can
be tried with it in seconds and without a network. Its answers are noise.
"""

import argparse
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

from scripts.tiny_hub.families import FAMILIES
from videollm.models.language import debug_tokenizer

TEMPLATE = (
    "{%% for message in messages %%}{{ '<|im_start|>' + message['role'] + '\n' }}{%% for part in message['content'] %%}"
    "{%% if part['type'] == 'video' %%}{{ '%s' }}{%% elif part['type'] == 'image' %%}{{ '%s' }}"
    "{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}{{ '<|im_end|>\n' }}{%% endfor %%}"
    "{%% if add_generation_prompt %%}{{ '<|im_start|>assistant\n' }}{%% endif %%}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
)
TOOL_CALLS = (
    "{% for call in message['tool_calls'] %}{{ '\n<tool_call>\n{\"name\": \"' + call['function']['name'] }}"
    "{{ '\", \"arguments\": ' }}{{ call['function']['arguments'] | tojson }}{{ '}\n</tool_call>' }}{% endfor %}"
)


def make_processor(family: str) -> transformers.ProcessorMixin:
    """The processor of a family, with a tokenizer of bytes and a chat template that all families share."""
    tiny = FAMILIES[family]
    base = debug_tokenizer()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base.backend_tokenizer,
        bos_token=base.bos_token,
        eos_token=base.eos_token,
        pad_token=base.pad_token,
        extra_special_tokens=tiny.named,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(tiny.tokens)}, replace_extra_special_tokens=False)
    tokenizer.chat_template = TEMPLATE % (tiny.video, tiny.image)
    if tiny.knows_tools:
        turn_end = "{{ '<|im_end|>\n' }}"
        tokenizer.chat_template = TOOLS + tokenizer.chat_template.replace(turn_end, TOOL_CALLS + turn_end)
        tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    processor = tiny.processor(tokenizer)
    processor.chat_template = tokenizer.chat_template
    return processor


def write(family: str, folder: Path) -> None:
    """Write the model and processor of a family."""
    tiny, processor = FAMILIES[family], make_processor(family)
    config = tiny.config(processor.tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto = transformers.AutoModelForMultimodalLM if tiny.speaks else transformers.AutoModelForImageTextToText
        model = auto.from_config(config, trust_remote_code=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    logging.set_verbosity_error()
    write(options.family, options.folder)


if __name__ == "__main__":
    main()
