"""Training on recall, which has no gradient, by REINFORCE (Williams 1992) over rankings that are drawn from the scores.

For each text, `samples` lists of k videos are drawn without replacement. Each position is drawn from the softmax of the
logits over the remaining videos (Plackett-Luce). The reward r of a list is 1 if the correct video is in it, so that the
mean reward is the recall@k. The gradient of the expected reward is that of

    -mean (r - b) log p(list)

where b is the mean reward of the other lists of the same text (leave one out). Videos are queries in the same way.
Candidates are the batch of all ranks.
"""

import torch

from train.tasks.contrastive import ContrastiveLoss, EncodedRows, texts_of, videos_of
from videollm.errors import ConfigError
from videollm.retrieval.model import RetrievalModel


class RecallReward(ContrastiveLoss):
    """The REINFORCE loss of recall.

    Args:
        model: The retrieval model.
        recall_at: k.
        samples: The number of lists for each query, at least 2.

    Attributes:
        reward: The mean reward of the last batch over both directions.

    Raises:
        ConfigError: If a value is too small.
    """

    def __init__(self, model: RetrievalModel, *, recall_at: int = 1, samples: int = 16):
        super().__init__(model)
        if samples < 2 or recall_at < 1:
            raise ConfigError(
                f"samples is {samples} and recall_at is {recall_at}; they must be at least 2 and 1, because a list is "
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
    """Returns the loss of logits (N,C) with correct candidates `right` (N,), and the mean reward."""
    repeated = logits.repeat_interleave(samples, 0)  # (N·S,C)
    lists = draw(repeated.detach(), min(k, logits.shape[1]))
    hit = (lists == right.repeat_interleave(samples)[:, None]).any(1).float().view(-1, samples)
    baseline = (hit.sum(1, keepdim=True) - hit) / (samples - 1)
    return -((hit - baseline).flatten() * log_probability(repeated, lists)).mean(), float(hit.mean())


def draw(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Returns lists (M,k) without replacement, which are the k largest of logits (M,C) plus Gumbel noise."""
    return (logits - torch.empty_like(logits).exponential_().log()).topk(k).indices


def log_probability(logits: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """Returns the log probabilities (M,) of lists (M,k). Each position has the softmax over what earlier ones have
    left."""
    total = logits.new_zeros(len(logits))
    for chosen in lists.unbind(1):
        total = total + logits.log_softmax(1).take_along_dim(chosen[:, None], 1)[:, 0]
        logits = logits.scatter(1, chosen[:, None], float("-inf"))
    return total
