"""Retrieval metrics: the official numbers, a plain implementation, and blocks that need little memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.parity import load_parity, load_parity_config
from videollm.errors import ConfigError
from videollm.retrieval import metrics
from videollm.retrieval.metrics import Scores, average_precision, evaluate, grouped_ranks, text_ranks

OFFICIAL = {"R1": "R1", "R5": "R5", "R10": "R10", "MdR": "MedianR", "MnR": "MeanR"}


@pytest.fixture(scope="module")
def official() -> tuple[dict[str, torch.Tensor], dict]:
    return load_parity("CLIP4Clip/metrics")["input"], load_parity_config("CLIP4Clip/metrics")


def assert_official(ours: dict[str, float], expected: dict) -> None:
    for name, official_name in OFFICIAL.items():
        assert ours[name] == pytest.approx(expected[official_name], rel=1e-6), name


def test_square_matrix_and_its_ties(official):
    arrays, expected = official
    for name, key in (("sim20", "square_t2v"), ("sim20_tied", "tied")):
        scores = Scores.of(arrays[name])
        ranks = text_ranks(scores, torch.arange(20))
        assert_official(ranks.summary("official"), expected[key])
        places = [int(b) + i for b, t in zip(ranks.better, ranks.tied, strict=True) for i in range(int(t))]
        assert places == expected[key]["cols"]
    found = evaluate(Scores.of(arrays["sim20"]), ties="official")
    assert_official(found["text_to_video"], expected["square_t2v"])
    assert_official(found["video_to_text"], expected["square_v2t"])


def test_several_sentences_a_video(official):
    arrays, expected = official
    video_of = torch.arange(5).repeat_interleave(arrays["multi_counts"])
    found = evaluate(Scores.of(arrays["multi_sim"]), video_of, "official_multi")
    assert_official(found["text_to_video"], expected["multi_t2v"])
    assert_official(found["video_to_text"], expected["multi_v2t"])
    assert grouped_ranks(Scores.of(arrays["multi_sim"]), video_of).better.tolist() == expected["multi_v2t"]["cols"]


def plain_ranks(row: np.ndarray, right: int) -> list[int]:
    """All places that the right candidate can have when the tied are shuffled."""
    better = int((row > row[right]).sum())
    return [better + i + 1 for i in range(int((row == row[right]).sum()))]


def plain_summary(rows: np.ndarray, truth: list[int]) -> dict[str, float]:
    places = [plain_ranks(row, right) for row, right in zip(rows, truth, strict=True)]
    found = {f"R{k}": 100 * float(np.mean([np.mean(np.array(p) <= k) for p in places])) for k in (1, 5, 10)}
    middle = [np.mean(p) for p in places]
    return found | {
        "MdR": float(np.median(middle)),
        "MnR": float(np.mean(middle)),
        "mAP": float(np.mean([np.mean(1 / np.array(p)) for p in places])),
    }


def plain_average_precision(row: np.ndarray, own: list[int]) -> float:
    return float(np.mean([sum(row[j] >= row[i] for j in own) / (row >= row[i]).sum() for i in own]))


@st.composite
def similarities(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """(Nt,Nv) with or without ties, and which video each text describes."""
    videos, extra = draw(st.integers(1, 9)), draw(st.integers(0, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    video_of = torch.cat((torch.arange(videos), torch.randint(videos, (extra,), generator=generator)))
    video_of = video_of[torch.randperm(len(video_of), generator=generator)]
    similarity = torch.randn(len(video_of), videos, generator=generator)
    levels = draw(st.sampled_from([1, 2, 100]))
    return (similarity * levels).round() / levels if levels < 100 else similarity, video_of


@given(similarities(), st.integers(1, 40))
def test_agrees_with_a_plain_implementation(drawn, block: int):
    similarity, video_of = drawn
    texts, videos = similarity.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK_ELEMENTS", block)
        found = evaluate(Scores.of(similarity), video_of)
        precision = average_precision(Scores.of(similarity), video_of)
    assert found["text_to_video"] == pytest.approx(plain_summary(similarity.numpy(), video_of.tolist()))
    own = [[i for i in range(texts) if video_of[i] == v] for v in range(videos)]
    best = np.stack([[similarity[o, v].max() for o in own] for v in range(videos)])
    expected = plain_summary(best, list(range(videos)))
    plain = [plain_average_precision(similarity[:, v].numpy(), own[v]) for v in range(videos)]
    assert precision.tolist() == pytest.approx(plain)
    if texts != videos:
        expected["mAP"] = float(np.mean(plain))
    assert found["video_to_text"] == pytest.approx(expected)


@given(similarities())
def test_ways_to_count_ties_agree_where_there_are_none(drawn):
    similarity, video_of = drawn
    similarity = similarity + torch.rand(similarity.shape, dtype=torch.float64)
    ranks = text_ranks(Scores.of(similarity), video_of)
    fair, official, multi = (ranks.summary(t) for t in ("fair", "official", "official_multi"))
    assert fair == pytest.approx(official)
    assert {k: v for k, v in multi.items() if k != "MdR"} == pytest.approx(
        {k: v for k, v in fair.items() if k != "MdR"}
    )
    assert multi["MdR"] <= fair["MdR"]


def test_tie_of_everything_is_chance():
    found = evaluate(Scores.of(torch.zeros(20, 20)))["text_to_video"]
    assert found["R1"] == pytest.approx(5)
    assert found["R10"] == pytest.approx(50)
    assert found["MnR"] == pytest.approx(10.5)


def test_embeddings_give_what_their_product_gives():
    torch.manual_seed(0)
    texts, videos = torch.randint(-2, 3, (50, 4)).float(), torch.randint(-2, 3, (50, 4)).float()
    assert evaluate(Scores.product(texts, videos)) == evaluate(Scores.of(texts @ videos.mT))


def test_errors_say_what_is_wrong():
    similarity = torch.eye(3)
    similarity[1, 1] = float("nan")
    with pytest.raises(ConfigError, match="query 1 with its right candidate is not a number"):
        evaluate(Scores.of(similarity))
    with pytest.raises(ConfigError, match="the videos of 2 texts, but there are 3"):
        evaluate(Scores.of(torch.eye(3)), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="videos 0 to 2 at least once"):
        evaluate(Scores.of(torch.eye(3)), torch.tensor([0, 1, 1]))


@pytest.mark.slow
def test_a_hundred_thousand_candidates_fit_in_two_gigabytes():
    """Both directions, with 1,000 queries: the blocks are those of 100,000 x 100,000."""
    script = """
import re, torch
from videollm.retrieval.metrics import Scores, grouped_ranks, text_ranks
many = torch.randn(1000, 512).repeat(100, 1)
few, other = many[:1000].clone(), many.clone()
assert (text_ranks(Scores.product(few, many), torch.arange(1000)).tied == 100).all()
assert (grouped_ranks(Scores.product(other, few), torch.arange(100_000) % 1000).better == 0).all()
print(re.search("VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 * 1024**2  # kilobytes


def test_where_every_rank_is_the_first_the_mean_average_precision_is_one():
    """In float32 the sums that ties take came to 1.0000001."""
    found = evaluate(Scores.of(torch.eye(50)))
    assert all(way["mAP"] <= 1 and way["mAP"] == pytest.approx(1, abs=1e-12) for way in found.values())
