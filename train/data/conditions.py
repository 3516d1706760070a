"""Text conditions of diffusion models, as targets of training."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from train.core.device import rank_device
from train.data.conversations import PromptCollator
from train.data.rows import InstructionRows
from videollm.decoders.conditions import TextConditions
from videollm.models.processor import Message, Processor, Prompt
from videollm.output_config import MODALITIES, Modality, OutputConfig


def text_encoders(outputs: OutputConfig) -> dict[Modality, TextConditions]:
    """Returns the text encoder of each modality's pipeline."""
    decoders = dict(zip(MODALITIES, outputs.decoders, strict=True))
    return {modality: TextConditions(decoders[modality], rank_device()) for modality in outputs.modalities}


class CaptionsToShow(Dataset[Prompt]):
    """Captioned rows as prompts that ask with the caption and answer with it and what it describes (NExT-GPT), once for
    each modality that the model shows. Videos are not read."""

    def __init__(self, rows: InstructionRows, processor: Processor):
        self.rows, self.processor, self.modalities = rows, processor, tuple(processor.signals)

    def __len__(self) -> int:
        return len(self.rows) * len(self.modalities)

    def __getitem__(self, draw: int) -> Prompt:
        row, number = divmod(draw % len(self), len(self.modalities))
        caption, modality = self.rows[row].messages[-1].content, self.modalities[number]
        answer = f"{caption} <{modality}>{caption}</{modality}>"
        return self.processor([Message("user", caption), Message("assistant", answer)])


class ConditionCollator(PromptCollator):
    """Prompts to the arguments of `VideoLLM.forward`, with the text conditions of what their answers show."""

    def __init__(self, processor: Processor, encoders: dict[Modality, TextConditions]):
        super().__init__(processor)
        self.encoders = encoders

    def __call__(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        shown = [one for prompt in prompts for one in prompt.shown]
        conditions = {}
        for modality, encode in self.encoders.items():
            if texts := [text for kind, text in shown if kind == modality]:
                conditions[modality] = encode(texts)
        return {**super().__call__(prompts), "conditions": conditions}
