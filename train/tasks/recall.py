"""Training on recall itself, which has no gradient: REINFORCE (Williams 1992) over rankings drawn from the scores.

For each text, `samples` lists of k videos are drawn without replacement; each place is drawn from the softmax of the
logits over the videos that are left (Plackett-Luce). The reward r of a list is 1 where the right video is on it, which
makes its mean the recall@k. The gradient of the expected reward is that of

    -mean (r - b) log p(list),  where b is the mean reward of the same text's other lists (leave one out)

Videos are queries in the same way. Candidates are the batch of all ranks.
"""

import torch

from train.tasks.contrastive import ContrastiveLoss, EncodedRows, texts_of, videos_of
from videollm.errors import ConfigError
from videollm.retrieval.model import RetrievalModel


class RecallReward(ContrastiveLoss):
    """recall_at: k. samples: lists drawn for each query. reward: mean of the last batch, over both directions."""

    def __init__(self, model: RetrievalModel, *, recall_at: int = 1, samples: int = 16):
        super().__init__(model)
        if samples < 2 or recall_at < 1:
            raise ConfigError(
                f"samples is {samples} and recall_at is {recall_at}; they must be at least 2 and 1: a list is "
                "compared with the other lists of its query"
            )
        self.recall_at, self.samples = recall_at, samples
        self.reward = 0.0

    def compare(self, rows: EncodedRows) -> torch.Tensor:
        logits = self.model.logits(texts_of(rows), videos_of(rows))
        right = torch.arange(logits.shape[1], device=logits.device)
        forth = policy_loss(logits[: len(right)], right, self.recall_at, self.samples)
        back = policy_loss(logits.mT, right, self.recall_at, self.samples)
        self.reward = (forth[1] + back[1]) / 2
        return (forth[0] + back[0]) / 2


def policy_loss(logits: torch.Tensor, right: torch.Tensor, k: int, samples: int) -> tuple[torch.Tensor, float]:
    """The loss above of logits (N,C) whose right candidates are `right` (N,), and the mean reward."""
    repeated = logits.repeat_interleave(samples, 0)  # (N·S,C)
    lists = draw(repeated.detach(), min(k, logits.shape[1]))
    hit = (lists == right.repeat_interleave(samples)[:, None]).any(1).float().view(-1, samples)
    baseline = (hit.sum(1, keepdim=True) - hit) / (samples - 1)
    return -((hit - baseline).flatten() * log_probability(repeated, lists)).mean(), float(hit.mean())


def draw(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Lists (M,k) without replacement: the k largest of logits (M,C) plus Gumbel noise."""
    return (logits - torch.empty_like(logits).exponential_().log()).topk(k).indices


def log_probability(logits: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """(M,) of lists (M,k): each place by the softmax over what the places before have left."""
    total = logits.new_zeros(len(logits))
    for place in lists.unbind(1):
        total = total + logits.log_softmax(1).take_along_dim(place[:, None], 1)[:, 0]
        logits = logits.scatter(1, place[:, None], float("-inf"))
    return total
