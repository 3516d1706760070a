"""The loss for captions of which some are wrong: what it leaves out, and the experiment about it."""

import pytest
import torch

from tests.train import tiny
from train.configs.retrieval import RETRIEVAL
from train.core.gradcache import cached_backward
from train.experiments import noisy_captions
from train.tasks.contrastive import ContrastiveLoss, TrimmedContrast
from videollm.errors import ConfigError
from videollm.retrieval.losses import symmetric_cross_entropy, trimmed_cross_entropy

LOGITS = 3 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_without_wrong_captions_it_is_plain():
    """Also with more rows, for captions that describe none of the videos."""
    for logits in (LOGITS, torch.cat((LOGITS, LOGITS[:3].flip(1)))):
        torch.testing.assert_close(trimmed_cross_entropy(logits, 0.0), symmetric_cross_entropy(logits))


def test_trimming_leaves_out_the_pairs_with_the_largest_loss():
    logits = 10 * torch.eye(8)
    logits[[2, 5]] = logits[[5, 2]]  # two captions were exchanged
    logits.requires_grad_()
    trimmed = trimmed_cross_entropy(logits, 0.25)
    assert trimmed < 0.01 < symmetric_cross_entropy(logits)
    trimmed.backward()
    assert logits.grad is not None
    pulled = logits.grad.diagonal() < 0  # towards its own video
    assert not pulled[[2, 5]].any() and pulled[[0, 1, 3, 4, 6, 7]].all()


def test_pieces_give_the_loss_of_the_whole_batch():
    model, batch = tiny.model("mean"), tiny.batch(6, false=True)
    contrast = TrimmedContrast(model, 0.4).train()
    whole = contrast.loss(contrast.encode(batch))
    assert float(cached_backward(contrast, batch, 2)) == pytest.approx(float(whole.detach()), abs=1e-5)
    assert whole < ContrastiveLoss(model).loss(contrast.encode(batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "trim", "wrong_captions": 1.0}, "wrong_captions is 1.0"),
        ({"objective": "trim", "sums": True}, "objective trim has no directions"),
        ({"objective": "trim", "head": "attentive", "teachers": "x"}, "objective trim has no directions"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        RETRIEVAL["world"].changed(**changes)


def test_the_experiment_prints_a_row_for_each_share_and_loss(capsys: pytest.CaptureFixture[str]):
    noisy_captions.main(["--clips", "12", "--tests", "6", "--epochs", "1", "--seeds", "1"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1:3] for row in rows] == [
        [f" {share} ", f" `{name}` "] for share in (0.0, 0.2, 0.4) for name in ("contrast", "trim")
    ]


def test_exchanged_captions_are_the_asked_share():
    ids = torch.arange(1, 21)[:, None]
    wrong = noisy_captions.exchanged(ids, 0.4)
    assert (wrong != ids).sum() == 8 and sorted(wrong.flatten().tolist()) == list(range(1, 21))
    assert torch.equal(noisy_captions.exchanged(ids, 0.0), ids)
