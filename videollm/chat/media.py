"""What an answer shows, from the signal tokens that the language model wrote."""

from collections.abc import Collection, Sequence

import torch

from videollm.chat.answer import MediaCondition
from videollm.model import Model
from videollm.models.processor import Prompt
from videollm.output_config import Modality

MOST_MEDIA = 4  # of one answer; a model that repeats itself would make the diffusion models work for hours


def media_conditions(
    model: Model, prompt: Prompt, answer: Sequence[int], made: Collection[Modality]
) -> tuple[MediaCondition, ...]:
    """Returns what an answer shows, in the order of its signal tokens, and at most `MOST_MEDIA` of it.

    The language model reads prompt and answer once more if any of it is made: engines keep no hidden states.

    Args:
        model: The model.
        prompt: The prompt.
        answer: The token ids of the answer.
        made: What somebody is going to make. The rest has no embeddings.
    """
    if not model.config.outputs.modalities:
        return ()
    starts: dict[int, Modality] = {ids[0]: modality for modality, ids in model.processor.signals.items()}
    every: list[Modality] = [starts[token] for token in answer if token in starts]
    shown = every[:MOST_MEDIA]
    if not any(modality in made for modality in shown):
        return tuple(MediaCondition(modality, None) for modality in shown)
    llm = model.llm
    assert llm.outputs is not None, "a processor has signal tokens only for a model with outputs"
    ids = torch.tensor([[*prompt.ids, *llm.outputs.completed(answer)]], device=llm.device)
    visual = prompt.visual()
    found = llm.conditions(ids, visual.to(llm.device) if visual else None)
    # Those of earlier answers come first.
    waiting: dict[Modality, int] = {starts[start]: prompt.ids.count(start) for start in starts}
    conditions = []
    for modality in shown:
        number = waiting[modality]
        waiting[modality] += 1
        embeddings = found[modality][number : number + 1] if modality in made else None
        conditions.append(MediaCondition(modality, embeddings))
    return tuple(conditions)
