"""Reinforcement by answers that can be checked: GRPO (Shao et al. 2024, DeepSeekMath).

    python train/rl.py RECIPE --init CHECKPOINT --data ROWS --evaluation ROWS [--field value]

Rows are multiple-choice questions, whose letter is right or wrong, and questions for a span of time, which are worth
its overlap with the true one (intersection over union). A group of answers is drawn to each question; the advantage of
an answer is its reward less the group's mean, in the group's standard deviations. Each draw gives one step, taken by
the policy that drew it: ratios are 1, nothing is clipped, and the gradient is that of the mean of A log p over tokens.
There is no penalty on the distance to the start (Yu et al. 2025, DAPO).
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import trange

from train.core.command import parse, run
from train.core.stages import device, save_language_model
from train.data.rows import Conversations, Features, Rows
from videollm import checkpoint
from videollm.checkpoint import Model
from videollm.datasets.schema import Sample
from videollm.errors import ConfigError
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.evaluate.metrics.spans import iou
from videollm.features.shards import FeatureShards
from videollm.models.processor import IGNORE, Prompt, collate

_LETTER = re.compile(r"\s*([A-Z])(?:\W|$)")
_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class RlRecipe:
    """init: the checkpoint directory to start from; data, evaluation: files of instruction data, as for stage 2, of
    which `choice` and `locate` rows are used; questions: of one step; group: answers drawn to each; tokens: the longest
    answer; evaluate_rows: held-out questions that are answered, greedily and by drawing, every `evaluate_every` steps.
    """

    name: str
    output: str
    init: str = "runs/world_stage2"
    data: str = "runs/world.jsonl"
    evaluation: str = "runs/world_val.jsonl"
    features: str = "runs/features"
    steps: int = 200
    questions: int = 8
    group: int = 8
    tokens: int = 32
    temperature: float = 1.0
    learning_rate: float = 2e-5
    max_grad_norm: float = 1.0
    evaluate_rows: int = 200
    evaluate_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ConfigError(f"group is {self.group}; an answer is compared with others, so it must be at least 2")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}; answers are drawn, so it must be above 0")


WORLD_RL = RlRecipe(name="world_rl", output="runs/world_rl")
DEBUG_RL = replace(WORLD_RL, name="debug_rl", output="runs/debug_rl", steps=2, questions=2, group=4, evaluate_rows=2)
RECIPES = {r.name: r for r in (WORLD_RL, DEBUG_RL)}


def checkable(sample: Sample) -> bool:
    return sample.task.startswith("choice") or (sample.task.startswith("locate") and len(sample.answer_times) == 1)


def reward(sample: Sample, text: str) -> float:
    """From 0 to 1."""
    if sample.task.startswith("choice"):
        given, right = _LETTER.match(text), _LETTER.match(sample.messages[-1].content)
        return float(given is not None and right is not None and given[1] == right[1])
    times = [3600 * int(h or 0) + 60 * int(m) + float(s) for h, m, s in _TIME.findall(text)]
    return iou(times, sample.answer_times[0]) if len(times) == 2 and times[0] < times[1] else 0.0


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """(questions, group): 0 where all answers of a group are worth the same."""
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (centred.pow(2).mean(1, keepdim=True).sqrt() + 1e-4)


class Policy:
    """Draws answers to rows and learns from their rewards."""

    def __init__(self, model: Model, prompts: Conversations, recipe: RlRecipe, reward: Callable[[Sample, str], float]):
        self.model, self.prompts, self.recipe, self.reward = model, prompts, recipe, reward
        trained = [p for p in model.llm.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=0.0)

    def asked(self, sample: Sample) -> Prompt:
        return self.prompts.prompt(sample, sample.messages[:-1])

    def draw(self, prompt: Prompt, count: int, greedy: bool = False) -> list[list[int]]:
        """Answers, each up to its end."""
        llm, processor, visual = self.model.llm, self.model.processor, prompt.visual()
        choice: dict[str, Any] = {"do_sample": False}
        if not greedy:
            choice = {"do_sample": True, "temperature": self.recipe.temperature, "top_k": 0, "top_p": 1.0}
        was = llm.training
        llm.eval()
        made = llm.generate(
            torch.tensor([prompt.ids], device=self.model.device),
            visual.to(self.model.device) if visual else None,
            max_new_tokens=self.recipe.tokens,
            num_return_sequences=count,
            eos_token_id=sorted(processor.stop_ids),
            pad_token_id=processor.tokenizer.pad_token_id,
            **choice,
        )
        llm.train(was)
        return [until(ids, processor.stop_ids) for ids in made.tolist()]

    def worth(self, sample: Sample, answers: Sequence[Sequence[int]]) -> list[float]:
        return [self.reward(sample, self.model.processor.decode(ids)) for ids in answers]

    def step(self, samples: Sequence[Sample]) -> float:
        """One step on a group of answers to each row; their mean reward."""
        asked = [self.asked(sample) for sample in samples]
        groups = [self.draw(prompt, self.recipe.group) for prompt in asked]
        rewards = torch.tensor([self.worth(s, answers) for s, answers in zip(samples, groups, strict=True)])
        whole = [
            Prompt([*p.ids, *ids], [*[IGNORE] * len(p), *ids], p.segments)
            for p, answers in zip(asked, groups, strict=True)
            for ids in answers
        ]
        (-self.weighted_log_p(whole, advantages(rewards).flatten())).backward()
        torch.nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], self.recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return rewards.mean().item()

    def weighted_log_p(self, whole: Sequence[Prompt], weights: torch.Tensor) -> torch.Tensor:
        """Mean over all answers' tokens of log p times the weight (answers,) of its answer."""
        batch: dict[str, Any] = collate(whole, self.model.processor.tokenizer.pad_token_id)
        batch = {k: None if v is None else v.to(self.model.device) for k, v in batch.items()}
        targets = batch["labels"][:, 1:]
        labelled = targets != IGNORE
        logits = self.model.llm.labelled_logits(**batch) / self.recipe.temperature
        log_p = -F.cross_entropy(logits, targets[labelled], reduction="none")
        return (log_p * weights.to(log_p)[:, None].expand_as(labelled)[labelled]).mean()

    def examine(self, samples: Sequence[Sample]) -> dict[str, list[float]]:
        """For each row the reward of the likeliest answer, and the mean reward of a drawn group."""
        greedy, drawn = [], []
        for sample in samples:
            prompt = self.asked(sample)
            greedy += self.worth(sample, self.draw(prompt, 1, greedy=True))
            drawn.append(float(np.mean(self.worth(sample, self.draw(prompt, self.recipe.group)))))
        return {"greedy": greedy, "drawn": drawn}


def until(ids: list[int], stop_ids: set[int]) -> list[int]:
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids))
    return ids[: end + 1]


def gain(before: Sequence[float], after: Sequence[float], clips: Sequence[str]) -> tuple[float, float, float]:
    """Of the mean, with its interval of 95 % by bootstrap over clips."""
    found = mean_interval(np.subtract(after, before), clips)
    return found.value, found.low, found.high


def train(recipe: RlRecipe) -> dict[str, Any]:
    """Writes the checkpoint directory, reward.json and reward.png. Returns what reward.json holds."""
    torch.manual_seed(recipe.seed)
    model = checkpoint.load_directory(Path(recipe.init), device(), trainable=True)
    if model.config.llm.lora is None:
        model.llm.language_model.requires_grad_(True)
    features = Features(shards=FeatureShards(recipe.features), encoder=model.encoder, config=model.config)
    rows, held_out = (Rows(files.split(","), checkable) for files in (recipe.data, recipe.evaluation))
    for some in (rows, held_out):
        features.make(some, 0)
    prompts = Conversations(rows, features, model.processor, model.config.prompt.context)
    policy = Policy(model, prompts, recipe, reward)
    examined = [held_out[i] for i in range(0, len(held_out), max(1, len(held_out) // recipe.evaluate_rows))]
    examined, rng = examined[: recipe.evaluate_rows], random.Random(recipe.seed)
    found, curve = [{"step": 0, **policy.examine(examined)}], []
    for step in trange(1, recipe.steps + 1, desc="steps", disable=None):
        curve.append(policy.step([rows[rng.randrange(len(rows))] for _ in range(recipe.questions)]))
        if step % recipe.evaluate_every == 0 or step == recipe.steps:
            found.append({"step": step, **policy.examine(examined)})
    clips = [sample.video for sample in examined]
    gains = {how: gain(found[0][how], found[-1][how], clips) for how in ("greedy", "drawn")}
    held = [{"step": f["step"], **{how: float(np.mean(f[how])) for how in gains}} for f in found]
    report = {"held_out": held, "training": curve, "gain": gains, "questions": len(examined)}
    output = Path(recipe.output)
    write(model, output, recipe, report)
    print(json.dumps({k: v for k, v in report.items() if k != "training"}))
    return report


def write(model: Model, output: Path, recipe: RlRecipe, report: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    lines = [f"# {output.name}", "", f"Reinforcement by rewards (`train/rl.py`), recipe `{recipe.name}`.", ""]
    lines += ["| field | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in asdict(recipe).items()), ""]
    for how, (mean, low, high) in report["gain"].items():
        was, now = (report["held_out"][i][how] for i in (0, -1))
        lines.append(f"- held-out reward, {how}: {was:.3f} to {now:.3f}, gain {mean:.3f} ({low:.3f} to {high:.3f})")
    model.llm.eval()
    state = model.llm.state_dict()
    if model.config.llm.lora is None:
        model = save_language_model(model, output, state)
    checkpoint.save(model, output, "\n".join([*lines, ""]))
    (output / "reward.json").write_text(json.dumps(report, indent=2))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(report["training"]) + 1), report["training"], alpha=0.4, label="training, drawn")
    for how in report["gain"]:
        axes.plot([h["step"] for h in report["held_out"]], [h[how] for h in report["held_out"]], ".-", label=how)
    axes.set(xlabel="step", ylabel="mean reward")
    axes.legend()
    figure.savefig(output / "reward.png", dpi=120)


def main(argv: Sequence[str] | None = None) -> None:
    run(train, parse(RECIPES, "GRPO on questions whose answers can be checked.", argv))


if __name__ == "__main__":
    main()
