"""Supervised classification of videos by a retrieval head, with cross-entropy."""

from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import nn

from train.configs.recognition import RecognitionRecipe, refuse_without_embedding
from train.core.gradcache import TensorBatch
from train.core.report import card
from train.core.trainer import TaskTrainer
from train.data.labels import LabelBatches, LabelledVideo, classes_of, read_labels
from train.tasks.adapters import merge_lora
from train.tasks.backbone import towers
from train.tasks.contrastive import frame_features
from train.tasks.epochs import EpochTask
from train.tasks.heads import build_retrieval_model
from train.tasks.retrieval import parameter_groups, set_trained
from videollm.errors import DataError
from videollm.retrieval.recogniser import Recogniser


class RecognitionLoss(nn.Module):
    """The cross-entropy of the right class of each label, averaged over labels and videos."""

    def __init__(self, recogniser: Recogniser):
        super().__init__()
        self.recogniser = recogniser

    def forward(self, batch: TensorBatch) -> dict[str, torch.Tensor]:
        logits = self.logits(batch)
        losses = [
            F.cross_entropy(x.float(), right) for x, right in zip(logits, batch["classes"].unbind(1), strict=True)
        ]
        return {"loss": torch.stack(losses).mean()}

    def logits(self, batch: TensorBatch) -> list[torch.Tensor]:
        return self.recogniser(frame_features(self.recogniser.model, batch), batch["mask"])


class RecognitionTask(EpochTask):
    """A retrieval head on a CLIP that learns to name classes, as STAN does on Kinetics (Liu et al. 2023)."""

    recipe: RecognitionRecipe
    module: RecognitionLoss

    def __init__(self, recipe: RecognitionRecipe):
        dataset, videos = recipe.dataset, Path(recipe.dataset.videos) if recipe.dataset.videos else None
        self.recipe, rows = recipe, read_labels(Path(dataset.data), videos)
        model = build_retrieval_model(recipe.retrieval)
        refuse_without_embedding(model.config.head.kind)  # a model of `init` may have another head than the recipe
        set_trained(model, recipe.retrieval)
        classes = classes_of(rows)
        if few := [names for names in classes if len(names) < 2]:
            raise DataError(f"{dataset.data}: all rows have the label {''.join(few[0])!r}; give two classes or more")
        self.module = RecognitionLoss(Recogniser(model, classes, dataset.fps, dataset.max_frames))
        self.groups = [
            *parameter_groups(model, recipe.retrieval),
            {"params": list(self.module.recogniser.classifier.parameters()), "lr": recipe.optimizer.learning_rate},
        ]
        self.collate = self._batches(rows, 1)
        super().__init__(recipe, [""] * len(self.collate.rows))
        self.tested = None
        if dataset.eval_data:
            self.tested = self._batches(read_labels(Path(dataset.eval_data), videos), dataset.views)

    def _batches(self, rows: list[LabelledVideo], views: int) -> LabelBatches:
        # The first rank decodes and encodes into the cache, which the others then read.
        recogniser = self.module.recogniser
        with PartialState().main_process_first():
            visual, layers = towers(recogniser.model)[0], recogniser.model.head.hidden_layers
            return LabelBatches(rows, self.recipe, visual, layers, recogniser.classes, views)

    def score(self) -> dict[str, float]:
        return accuracy(self.module, self.tested) if self.tested else {}

    def finish(self, trainer: TaskTrainer) -> dict[str, float]:
        for tower in towers(self.module.recogniser.model):
            merge_lora(tower)
        self.log = trainer.state.log_history
        return super().finish(trainer)

    def write(self, found: dict[str, float]) -> None:
        recogniser = self.module.recogniser
        lines = [
            f"head {recogniser.model.config.head.kind}",
            f"classes: {' and '.join(str(len(c)) for c in recogniser.classes)}",
        ]
        recogniser.save(Path(self.recipe.output), card(self.recipe, "train/recognize.py", found, self.log, lines))
        if found:
            print(found)


def accuracy(module: RecognitionLoss, batches: LabelBatches) -> dict[str, float]:
    """Returns `top1` and `top5`, the shares of labels whose class is the most probable one, or among the five most
    probable ones (not where all labels have at most five classes). Of several labels also `all`, the share of videos
    all of whose labels are the most probable ones."""
    found = ranks(module, batches)
    kinds = (1, 5) if max(map(len, module.recogniser.classes)) > 5 else (1,)
    measures = {f"top{k}": float((found < k).float().mean()) for k in kinds}
    return measures | ({"all": float((found == 0).all(1).float().mean())} if found.shape[1] > 1 else {})


@torch.no_grad()
def ranks(module: RecognitionLoss, batches: LabelBatches, size: int = 64) -> torch.Tensor:
    """Returns how many other classes are at least as probable as the right one, int64 (N,K), for each label of each
    video.

    The probabilities of a video are averaged over its views.
    """
    module.eval()
    return torch.cat([_ranks(module, batches, r.tolist()) for r in torch.arange(len(batches.classes)).split(size)])


def _ranks(module: RecognitionLoss, batches: LabelBatches, rows: list[int]) -> torch.Tensor:
    device = next(module.parameters()).device
    probs = []
    for view in batches.by_view(rows):
        there = view["mask"].any(1)
        view["mask"][~there, 0] = True  # a head needs a frame; what it makes of this one is not counted
        logits = module.logits({name: x.to(device) for name, x in view.items()})
        probs.append([x.softmax(1).cpu() * there[:, None] for x in logits])
    found = []
    for views, right in zip(zip(*probs, strict=True), batches.classes[rows].unbind(1), strict=True):
        total = torch.stack(views).sum(0)
        rank = (~(total < total.gather(1, right[:, None]))).sum(1) - 1
        found.append(rank.masked_fill(total.isnan().any(1), total.shape[1]))
    return torch.stack(found, 1)
