"""Stage 1: align the temporal module's tokens with words. `[deepspeed|python] train/stage1.py RECIPE [--field value]`

Losses, weighted by the recipe:
- contrastive: the mean of a segment's visual tokens against the mean word embedding of its scene's name, both ways
  (CLIP's symmetric InfoNCE), within the batch. It needs no pass through the language model.
- caption: next-word loss of the caption through the frozen language model, from visual tokens alone (no tags).
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.questions import Questioner, Taxonomy
from train.recipes import Recipe
from train.run import Stories, TrainedPartsTrainer, build, parse, simulated, split_classes, training_arguments
from train.simulate import Story
from videollm.checkpoint import Model
from videollm.models.processor import Message, Processor, collate
from videollm.models.video_llm import VideoLLM


class AlignmentCollator:
    """Stories to the arguments of `Alignment.forward`."""

    def __init__(self, model: Model, taxonomy: Taxonomy):
        config = replace(model.config, prompt=replace(model.config.prompt, tags=0))
        self.processor = Processor(model.processor.tokenizer, config)
        self.taxonomy = taxonomy

    def __call__(self, stories: Sequence[Story]) -> dict[str, Any]:
        names, prompts = [], []
        for story in stories:
            questioner = Questioner(story, self.taxonomy, random.Random(story.scenes[-1].end_s))
            (caption,) = questioner.ask(1, ["describe"])
            prompts.append(
                self.processor(
                    [Message("user", caption.question), Message("assistant", caption.answer)], story.segments
                )
            )
            for k in story.scene_of:
                classes = story.scenes[k].classes
                names.append(self.taxonomy.of_class(classes[0])[0] if classes else "")
        words = self.processor.tokenizer([f" {n}" for n in names], add_special_tokens=False, padding=True)
        name_ids = torch.tensor(words["input_ids"])
        return {
            **collate(prompts, self.processor.tokenizer.pad_token_id),
            "name_ids": name_ids,
            "name_mask": torch.tensor(words["attention_mask"]).bool(),
            "named": torch.tensor([bool(n) for n in names]),
        }


class Alignment(nn.Module):
    """The stage-1 losses over one VideoLLM whose language model is frozen."""

    def __init__(self, llm: VideoLLM, recipe: Recipe):
        super().__init__()
        self.llm = llm
        self.recipe = recipe
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(
        self, name_ids: torch.Tensor, name_mask: torch.Tensor, named: torch.Tensor, **prompt: Any
    ) -> dict[str, torch.Tensor]:
        loss = self.log_scale * 0
        if self.recipe.contrastive:
            visual = F.normalize(self.llm.embed_segments(prompt["visual"]).mean(1)[named], dim=-1)
            words = self.llm.get_input_embeddings()(name_ids[named]).float()
            mask = name_mask[named]
            text = F.normalize((words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
            loss = loss + self.recipe.contrastive * contrastive(visual, text, self.log_scale.exp())
        if self.recipe.caption:
            loss = loss + self.recipe.caption * self.llm(**prompt).loss
        return {"loss": loss}


def contrastive(visual: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE over unit rows (M,H), averaged over both directions. Rows with the same text are all
    right answers to each other."""
    same = (text @ text.T > 1 - 1e-5).float()
    logits = scale * visual @ text.T
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def main(argv: Sequence[str] | None = None) -> None:
    recipe = parse(1, argv)
    config = replace(recipe.config, llm=replace(recipe.config.llm, lora=None))
    model = build(recipe, config)
    seen, _ = split_classes(model, recipe.held_out)
    simulator, taxonomy = simulated(model, seen)
    trainer = TrainedPartsTrainer(
        Alignment(model.llm, recipe),
        training_arguments(recipe),
        train_dataset=Stories(simulator, recipe.videos, recipe.seed),
        data_collator=AlignmentCollator(model, taxonomy),
    )
    trainer.train(resume_from_checkpoint=recipe.resume or None)
    trainer.finish(model)


if __name__ == "__main__":
    main()
