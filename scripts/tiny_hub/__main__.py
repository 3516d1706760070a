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


def write(family: str, folder: Path) -> None:
    """Write the model and processor of a family."""
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
    processor = tiny.processor(tokenizer)
    processor.chat_template = tokenizer.chat_template
    config = tiny.config(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config)
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
