"""What contrastive training computes: gradients in pieces and over ranks, teachers, wrong captions, rewards."""

import math
import os
import random
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.train import processes, tiny
from train.core.gradcache import average_over_ranks, cached_backward
from train.core.optimizers import BertAdam
from train.core.schedules import lr_multiplier
from train.data.hard_negatives import alike
from train.tasks.contrastive import ContrastiveLoss, texts_of, videos_of
from train.tasks.distillation import DistilledContrast
from train.tasks.recall import RecallReward, draw, log_probability, policy_loss
from videollm.errors import ConfigError
from videollm.retrieval.losses import symmetric_cross_entropy
from videollm.retrieval.model import RetrievalModel


def gradients(model: RetrievalModel) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and a
    for name in a:
        difference = float((a[name] - b[name]).abs().max())
        assert difference < 1e-5 * max(1.0, float(a[name].abs().max())), name


@pytest.mark.parametrize("kind", ["mean", "transformer", "tight", "xclip", "stan", "mug"])
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_pieces_give_the_gradients_of_the_whole_batch(kind: str, chunk: int):
    """STAN drops paths at random in training, and must drop the same ones when a piece is encoded again."""
    model = tiny.model(kind)
    contrast, batch = ContrastiveLoss(model).train(), tiny.batch(6, false=True)
    if kind in ("stan", "mug"):
        model.eval()  # whole and in pieces, the random numbers come in another order
    loss = contrast.loss(contrast.encode(batch))
    loss.backward()
    whole = gradients(model)
    model.zero_grad()
    assert float(cached_backward(contrast, batch, chunk)) == pytest.approx(float(loss), abs=1e-5)
    assert_same(gradients(model), whole)


def test_a_piece_is_encoded_again_with_the_same_random_numbers():
    model = tiny.model("stan").train()
    contrast, batch = ContrastiveLoss(model), tiny.batch(6)
    torch.manual_seed(3)
    loss = contrast.loss(contrast.encode(batch))
    loss.backward()
    whole, after = gradients(model), torch.rand(())
    model.zero_grad()
    torch.manual_seed(3)
    assert float(cached_backward(contrast, batch, 6)) == pytest.approx(float(loss), abs=1e-5)
    assert torch.equal(torch.rand(()), after)
    assert_same(gradients(model), whole)


def rank_gradients(kind: str, chunk: int, folder: Path) -> None:
    """One rank of a run: its half of the batch, and its gradients, averaged as data parallel training does."""
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if ranks > 1:
        dist.init_process_group("gloo")
    model, whole = tiny.model(kind), tiny.batch(6, false=True)
    contrast = ContrastiveLoss(model).eval()
    batch = {k: v[rank * 6 // ranks : (rank + 1) * 6 // ranks] for k, v in whole.items()}
    if chunk:
        cached_backward(contrast, batch, chunk)
    else:
        contrast.loss(contrast.encode(batch)).backward()
    average_over_ranks(contrast)
    save_file(gradients(model), folder / f"{ranks}-{rank}.safetensors")


@pytest.mark.parametrize(("kind", "chunk"), [("mean", 0), ("xclip", 0), ("tight", 2)])
def test_two_ranks_have_the_gradients_of_one_with_twice_the_batch(tmp_path: Path, kind: str, chunk: int):
    for ranks in (1, 2):
        processes.run(rank_gradients, kind, chunk, tmp_path, ranks=ranks, log=tmp_path / f"{ranks}.log")
    one = load_file(tmp_path / "1-0.safetensors")
    for rank in (0, 1):
        assert_same(load_file(tmp_path / f"2-{rank}.safetensors"), one)


def test_wrong_captions_are_wrong_answers_for_videos_only():
    logits, wrong = torch.randn(4, 4), torch.randn(3, 4)
    targets = torch.arange(4)
    rows, columns = F.cross_entropy(logits, targets), F.cross_entropy(torch.cat((logits, wrong)).mT, targets)
    assert torch.allclose(symmetric_cross_entropy(torch.cat((logits, wrong))), (rows + columns) / 2)


def test_the_sum_of_both_directions_is_twice_their_mean():
    model, batch = tiny.model("mean"), tiny.batch(3)
    mean, total = (float(ContrastiveLoss(model, sums=sums)(batch)["loss"]) for sums in (False, True))
    assert total == pytest.approx(2 * mean)


def test_a_learned_temperature_stays_above_its_least():
    model = tiny.model("mean")
    model.logit_scale.data.fill_(9.0)
    ContrastiveLoss(model).limit_scale()
    assert float(model.scale()) == pytest.approx(100)


def test_a_student_that_is_its_teacher_is_taught_nothing_coarse():
    student = tiny.model("attentive")
    batch = tiny.batch(5)
    contrast = DistilledContrast(student, [tiny.model("attentive")]).eval()
    rows = contrast.encode(batch)
    logits = student.logits(texts_of(rows), videos_of(rows))
    fine = -(rows["teacher0_weights"] * rows["weights"].log()).mean()
    expected = 0.2 * symmetric_cross_entropy(logits) + 2 * fine
    assert float(contrast.loss(rows)) == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(rows["teacher0_weights"].sum(1), torch.ones(5))
    assert bool((rows["teacher0_weights"][~batch["mask"]] == 0).all())


def test_a_taught_student_comes_near_its_teacher_and_the_teacher_stays():
    student, teacher = tiny.model("attentive"), tiny.model("xclip")
    with torch.no_grad():
        for parameter in teacher.text.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    contrast, batch = DistilledContrast(student, [teacher]), tiny.batch(6)
    before = {n: p.clone() for n, p in teacher.named_parameters()}
    trained = [p for p in contrast.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in student.parameters()}
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(15):
        contrast.train()
        assert not teacher.training and student.training
        loss = contrast(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.2
    assert all(torch.equal(p, before[n]) for n, p in teacher.named_parameters())


def test_teachers_need_a_student_with_frame_weights():
    with pytest.raises(ConfigError, match="attentive"):
        DistilledContrast(tiny.model("mean"), [])


def test_bert_adam_follows_its_equations():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(5))
    optimizer = BertAdam([p], lr=0.1, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    expected, m, v = p.detach().clone(), torch.zeros(5), torch.zeros(5)
    for scale in (0.1, 30.0, 1.0):
        g = scale * torch.randn(5)
        p.grad = g.clone()
        optimizer.step()
        g = g * min(1.0, 1.0 / (float(g.norm()) + 1e-6))
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        expected = expected - 0.1 * (m / (v.sqrt() + 1e-6) + 0.2 * expected)
        assert torch.allclose(p.detach(), expected, atol=1e-6)


@given(warmup=st.floats(0, 0.5), progress=st.floats(0, 1))
def test_schedules_stay_between_nothing_and_all(warmup: float, progress: float):
    for schedule in ("cosine", "bert_cosine", "constant", "rising"):
        assert 0 <= lr_multiplier(schedule, progress, warmup) <= 1


def test_schedules_at_known_points():
    assert lr_multiplier("cosine", 0.05, 0.1) == pytest.approx(0.5)
    assert lr_multiplier("cosine", 0.55, 0.1) == pytest.approx(0.5)
    assert lr_multiplier("bert_cosine", 0.1, 0.1) == pytest.approx((1 + math.cos(0.1 * math.pi)) / 2)
    assert lr_multiplier("rising", 0.0, 0.0) == 0.05 and lr_multiplier("rising", 1.0, 0.0) == 1.0


@settings(max_examples=25)
@given(rows=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_mined_batches_hold_each_row_once(rows: int, size: int, seed: int):
    embeds, rng = F.normalize(torch.randn(rows, 4), dim=-1), random.Random(seed)
    order = alike(rng.sample(range(rows), rows), embeds, size, rng)
    assert sorted(order) == list(range(rows))


def test_mined_batches_hold_what_is_alike():
    torch.manual_seed(0)
    centres = 5 * torch.eye(8)[:4]
    kind = torch.arange(128) % 4
    vectors = centres[kind] + 0.1 * torch.randn(128, 8)

    def mined(seed: int) -> list[int]:
        rng = random.Random(seed)
        return alike(rng.sample(range(128), 128), F.normalize(vectors, dim=-1), 8, rng)

    batches = kind[torch.tensor(mined(0)).view(16, 8)]
    assert all(len(batch.unique()) == 1 for batch in batches[:3])  # later a kind may run out
    assert mined(0) != mined(1)


def test_lists_are_drawn_as_often_as_their_probability_says():
    torch.manual_seed(0)
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    lists = draw(logits.expand(20000, -1), 2)
    assert bool((lists[:, 0] != lists[:, 1]).all())
    total = 0.0
    for first in range(3):
        for second in {0, 1, 2} - {first}:
            wanted = torch.tensor([[first, second]])
            expected = float(log_probability(logits, wanted).exp())
            found = float((lists == wanted).all(1).float().mean())
            assert found == pytest.approx(expected, abs=0.015)
            total += expected
    assert total == pytest.approx(1)


def test_the_policy_gradient_is_that_of_the_expected_reward():
    """Recall@1 of one query is its right candidate's probability, whose gradient is known."""
    torch.manual_seed(0)
    logits = torch.tensor([[0.5, 0.2, -0.3]], requires_grad=True)
    loss, reward = policy_loss(logits, torch.tensor([1]), 1, 40000)
    loss.backward()
    p = logits.detach().softmax(1)[0]
    expected = -p[1] * (torch.eye(3)[1] - p)
    assert reward == pytest.approx(float(p[1]), abs=0.01)
    assert logits.grad is not None and torch.allclose(logits.grad[0], expected, atol=0.01)


def test_reward_rises():
    model, batch = tiny.model("mean"), tiny.batch(6)
    contrast = RecallReward(model, recall_at=1, samples=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rewards = []
    for _ in range(40):
        optimizer.zero_grad()
        contrast(batch)["loss"].backward()
        optimizer.step()
        rewards.append(contrast.reward)
    assert sum(rewards[:3]) / 3 < 0.4 and sum(rewards[-3:]) / 3 > 0.8
