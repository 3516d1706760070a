"""Prompts for language models that write or check instruction data, one Jinja file each.

`videollm.inference.prompts` describes the files; `parts/` holds text that several of them share.
"""

import functools
from dataclasses import dataclass

from videollm.inference.prompts import ChatPrompt, prompt_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationPrompt(ChatPrompt):
    """A prompt with the lines of its head.

    Args:
        purpose: What the samples are good for; the datasheet shows it.
        task: The task of the samples.
        shape: What the reply looks like, one of `data_gen.generators.replies.REPLY_FORMATS`.
        needs: What a clip must have: `times`, `speech` or nothing.
    """

    purpose: str
    task: str
    shape: str
    needs: str


@functools.cache
def prompts() -> dict[str, GenerationPrompt]:
    """All prompts by name, which is the name of their file."""
    environment = prompt_environment("data_gen")
    files = environment.list_templates(filter_func=lambda file: file.endswith(".jinja") and "/" not in file)
    loaded = (GenerationPrompt.load(environment, file) for file in files)
    return {prompt.name: prompt for prompt in loaded}
