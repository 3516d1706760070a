"""Reinforcement learning on answers that can be checked, by GRPO (DeepSeekMath, Shao et al. 2024).

A group of answers is drawn to each question. The advantage of an answer is its reward minus the group's mean, divided
by the group's standard deviation. Each drawing gives one step of the policy that drew it. Probability ratios are
therefore 1, nothing is clipped, and the gradient is that of the mean of A log p over tokens. The distance to the
starting model is not penalised (as in DAPO, Yu et al. 2025). Only the language model is trained: while the temporal
module was trained too, answers of the world collapsed to one span for all clips.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Sampler

from train.configs.rl import GRPORecipe
from train.core.report import card, plot
from train.core.schedules import lr_multiplier
from train.core.task import TrainingTask
from train.core.trainer import TaskTrainer
from train.data.conversations import Conversations
from train.data.features import VideoFeatures
from train.data.packing import PackedPrompt, collate_packed
from train.data.rows import InstructionRows
from train.tasks.video_llm import save_checkpoint, trained_checkpoint
from videollm.datasets.schema import Sample
from videollm.evaluate.metrics.answers import chosen_letter
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.evaluate.metrics.spans import iou
from videollm.model import Model
from videollm.models.processor import IGNORE, Prompt

Reward = Callable[[Sample, str], float]

_TIME = re.compile(r"(?<![\d:.])(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)(?![\d:]|\.\d)")  # 0:02.2.2 is none
_OPTION = re.compile(r"^([A-Z])[.)] ", re.MULTILINE)


def checkable(sample: Sample) -> bool:
    """Returns whether the answer of a row can be checked: a letter, or one span of time."""
    return sample.task.startswith("choice") or (sample.task.startswith("locate") and len(sample.answer_times) == 1)


def reward(sample: Sample, text: str) -> float:
    """Returns the reward of an answer, from 0 to 1: whether the letter is right, or the overlap with the true span
    (IoU)."""
    if sample.task.startswith("choice"):
        letters = "".join(_OPTION.findall(sample.messages[-2].content)) or ascii_uppercase
        given, right = (chosen_letter(t, letters) for t in (text, sample.messages[-1].content))
        return float(given is not None and given == right)
    times = [3600 * int(h or 0) + 60 * int(m) + float(s) for h, m, s in _TIME.findall(text)]
    return iou(times, sample.answer_times[0]) if len(times) == 2 and times[0] < times[1] else 0.0


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Returns the advantages of rewards (questions, group). They are 0 if all answers of a group have the same
    reward."""
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (centred.pow(2).mean(1, keepdim=True).sqrt() + 1e-4)


class Policy(nn.Module):
    """A model that draws answers to rows. Called with rows, it returns the loss of a drawing.

    Args:
        model: The model.
        prompts: The prompts of the rows.
        recipe: The recipe.
        reward: The reward of an answer to a row.

    Attributes:
        curve: The mean reward of each drawing.
    """

    def __init__(self, model: Model, prompts: Conversations, recipe: GRPORecipe, reward: Reward):
        super().__init__()
        self.llm = model.llm
        self.model, self.prompts, self.drawing, self.reward = model, prompts, recipe.drawing, reward
        self.curve: list[float] = []

    def forward(self, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
        asked = [self.asked(sample) for sample in samples]
        groups = [self.draw(prompt, self.drawing.group) for prompt in asked]
        rewards = torch.tensor([self.worth(s, answers) for s, answers in zip(samples, groups, strict=True)])
        self.curve.append(rewards.mean().item())
        whole = [
            [Prompt([*p.ids, *ids], [*[IGNORE] * len(p), *ids], p.segments) for ids in answers]
            for p, answers in zip(asked, groups, strict=True)
        ]
        return {"loss": -self.weighted_log_p(whole, advantages(rewards))}

    def asked(self, sample: Sample) -> Prompt:
        """Returns the prompt of a row, up to where its answer begins."""
        return self.prompts.prompt(sample, sample.messages[:-1])

    def draw(self, prompt: Prompt, count: int, greedy: bool = False) -> list[list[int]]:
        """Returns the token ids of `count` answers, each up to its end."""
        processor, visual = self.model.processor, prompt.visual()
        choice: dict[str, Any] = {"do_sample": False}
        if not greedy:
            choice = {"do_sample": True, "temperature": self.drawing.temperature, "top_k": 0, "top_p": 1.0}
        was = self.llm.training
        self.llm.eval()
        made = self.llm.generate(
            torch.tensor([prompt.ids], device=self.model.device),
            visual.to(self.model.device) if visual else None,
            max_new_tokens=self.drawing.tokens,
            num_return_sequences=count,
            eos_token_id=sorted(processor.stop_ids),
            pad_token_id=processor.tokenizer.pad_token_id,
            **choice,
        )
        self.llm.train(was)
        return [until(ids, processor.stop_ids) for ids in made.tolist()]

    def worth(self, sample: Sample, answers: Sequence[Sequence[int]]) -> list[float]:
        """Returns the reward of each answer."""
        return [self.reward(sample, self.model.processor.decode(ids)) for ids in answers]

    def weighted_log_p(self, whole: Sequence[Sequence[Prompt]], weights: torch.Tensor) -> torch.Tensor:
        """Returns the mean, over the tokens of all answers, of log p times the weight (questions, group) of the answer.

        The answers to a question share one pass over its video.
        """
        packed = [PackedPrompt.of(group) for group in whole]
        batch: dict[str, Any] = collate_packed(packed, self.model.processor.tokenizer.pad_token_id)
        batch = {k: None if v is None else v.to(self.model.device) for k, v in batch.items()}
        targets = batch["labels"][:, 1:]
        logits = self.llm.labelled_logits(**batch) / self.drawing.temperature
        log_p = -F.cross_entropy(logits, targets[targets != IGNORE], reduction="none")
        lengths = torch.tensor([sum(k != IGNORE for k in prompt.labels) for group in whole for prompt in group])
        return (log_p * weights.flatten().repeat_interleave(lengths).to(log_p)).mean()

    @torch.no_grad()
    def examine(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """Returns, for each row, the reward of the most likely answer and the mean reward of a drawn group."""
        greedy, drawn = [], []
        for sample in samples:
            prompt = self.asked(sample)
            greedy += self.worth(sample, self.draw(prompt, 1, greedy=True))
            drawn.append(float(np.mean(self.worth(sample, self.draw(prompt, self.drawing.group)))))
        return {"greedy": greedy, "drawn": drawn}


class RandomRows(Sampler[int]):
    """`count` numbers of rows, drawn with replacement."""

    def __init__(self, rows: int, count: int, seed: int):
        self.rows, self.count, self.seed = rows, count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(self.seed)
        yield from (rng.randrange(self.rows) for _ in range(self.count))


class GRPOTask(TrainingTask):
    """GRPO on multiple-choice questions and questions for a span of time."""

    recipe: GRPORecipe
    module: Policy
    has_own_optimizer = True

    def __init__(self, recipe: GRPORecipe):
        self.recipe, dataset = recipe, recipe.dataset
        torch.manual_seed(recipe.seed)
        model = trained_checkpoint(Path(recipe.init))
        features = VideoFeatures.at(dataset.features, model.encoder, model.config)
        rows, held_out = (InstructionRows(files.split(","), checkable) for files in (dataset.data, dataset.eval_data))
        for some in (rows, held_out):
            features.prepare(some, 0)
        prompts = Conversations(rows, features, model.processor, model.config.prompt.context)
        self.module = Policy(model, prompts, recipe, reward)
        self.rows = rows
        self.sampler = RandomRows(len(rows), dataset.steps * dataset.batch_size, recipe.seed)
        every = max(1, len(held_out) // dataset.evaluate_rows)
        self.examined = [held_out[i] for i in range(0, len(held_out), every)][: dataset.evaluate_rows]
        # The trainer draws random numbers while it starts. The first step restores this state, so that answers do not
        # depend on them.
        self.random_state = torch.get_rng_state()

    def collate(self, samples: list[Sample]) -> dict[str, list[Sample]]:  # type: ignore[override]
        return {"samples": samples}

    def create_optimizer(self) -> torch.optim.Optimizer:
        optimizer = self.recipe.optimizer
        trained = [p for p in self.module.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay)

    def lr_multiplier(self, progress: float) -> float:
        return lr_multiplier("constant", progress, self.recipe.optimizer.warmup_ratio)

    def before_step(self, trainer: TaskTrainer) -> None:
        if trainer.state.global_step == 0:
            torch.set_rng_state(self.random_state)
            self._examine(trainer)

    def after_step(self, trainer: TaskTrainer) -> None:
        step, dataset = trainer.state.global_step, self.recipe.dataset
        # The log is part of a checkpoint, so that a resumed run has the whole curve.
        trainer.state.log_history.append({"step": step, "reward": self.module.curve.pop()})
        if step % dataset.evaluate_every == 0 or step == dataset.steps:
            self._examine(trainer)

    def _examine(self, trainer: TaskTrainer) -> None:
        found = self.module.examine(self.examined)
        history: list[dict[str, Any]] = trainer.state.log_history  # type: ignore[assignment]
        history.append({"step": trainer.state.global_step, **found})

    def finish(self, trainer: TaskTrainer) -> dict[str, Any]:
        """Writes the checkpoint directory, reward.json and reward.png. Returns the content of reward.json."""
        history: list[dict[str, Any]] = trainer.state.log_history  # type: ignore[assignment]
        found = [h for h in history if "greedy" in h]
        clips = [sample.video for sample in self.examined]
        gains = {how: gain(found[0][how], found[-1][how], clips) for how in ("greedy", "drawn")}
        held_out = [{"step": f["step"], **{how: float(np.mean(f[how])) for how in gains}} for f in found]
        curve = [h["reward"] for h in history if "reward" in h]
        report = {"held_out": held_out, "training": curve, "gain": gains, "questions": len(clips)}
        state = trainer.trained_state()
        if trainer.is_world_process_zero():
            self._write(state, report)
        return report

    def _write(self, state: dict[str, torch.Tensor], report: dict[str, Any]) -> None:
        output, model = Path(self.recipe.output), self.module.model
        lines = []
        for how, (mean, low, high) in report["gain"].items():
            was, now = (report["held_out"][i][how] for i in (0, -1))
            lines.append(f"held-out reward, {how}: {was:.3f} to {now:.3f}, gain {mean:.3f} ({low:.3f} to {high:.3f})")
        inside = {name.removeprefix("llm."): tensor for name, tensor in state.items()}
        text = card(self.recipe, "train/rl.py", {}, [], lines)
        save_checkpoint(model, output, inside, text, full=model.config.llm.lora is None)
        (output / "reward.json").write_text(json.dumps(report, indent=2))
        curves = {"training, drawn": list(enumerate(report["training"], 1))}
        curves |= {how: [(h["step"], h[how]) for h in report["held_out"]] for how in report["gain"]}
        plot(output / "reward.png", curves, "mean reward")
        print(json.dumps({k: v for k, v in report.items() if k != "training"}))


def until(ids: list[int], stop_ids: set[int]) -> list[int]:
    """Returns the ids up to and including the first stop token."""
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids))
    return ids[: end + 1]


def gain(before: Sequence[float], after: Sequence[float], clips: Sequence[str]) -> tuple[float, float, float]:
    """Returns the gain of the mean, and its 95 % interval by bootstrap over clips."""
    found = mean_interval(np.subtract(after, before), clips)
    return found.value, found.low, found.high
