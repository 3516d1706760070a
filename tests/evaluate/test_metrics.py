"""Metrics against reference implementations and published examples."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videollm.datasets.item import Item
from videollm.evaluate.metrics.aggregate import difference, interval, value_of
from videollm.evaluate.metrics.agreement import cohen_kappa, pearson, spearman
from videollm.evaluate.metrics.answers import abstains, chosen_letter, contains, exact, f1, yes_or_no
from videollm.evaluate.metrics.bleu import bleu_of, bleu_rows
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.evaluate.metrics.captions import cider, meteor, rouge_l
from videollm.evaluate.metrics.spans import average_precision, iou, shared_length, union_length
from videollm.evaluate.tasks.classify import Classify

TEXTS = [
    "a man is playing a guitar on stage",
    "a dog runs across the green field",
    "two children are cooking in the kitchen",
    "a cat sits on a red chair and looks at the camera",
    "people dance",
]
REFERENCES = [
    ["a man plays the guitar on a stage", "someone is playing guitar", "a musician performs on stage with a guitar"],
    ["a dog is running through a field", "a brown dog runs over the grass"],
    ["a woman cooks in a kitchen", "two kids are making food in the kitchen", "children cook together"],
    ["a cat is sitting on a chair", "the red chair has a cat on it"],
    ["a crowd of people is dancing at a party", "people are dancing"],
]
CLOSE = 1e-7


def test_cider_gives_the_coco_evaluation_s_numbers():
    """Those of pycocoevalcap 1.2 on the same words."""
    assert cider(TEXTS, REFERENCES) == pytest.approx(
        [2.04681749, 1.4761487, 1.39782591, 1.28312967, 0.75420149], abs=CLOSE
    )
    assert value_of("CIDEr", cider(TEXTS, REFERENCES)) == pytest.approx(1.3916246514124766, abs=1e-12)


def test_rouge_l_gives_the_coco_evaluation_s_numbers():
    expected = [0.69318182, 0.57142857, 0.6587473, 0.55253623, 0.38607595]
    assert rouge_l(TEXTS, REFERENCES) == pytest.approx(expected, abs=CLOSE)


def test_bleu_gives_the_coco_evaluation_s_numbers():
    """Which adds 1e-15 to counts, hence the tolerance, and so has no exact zero at order 4."""
    rows = bleu_rows(TEXTS, REFERENCES)
    found = [bleu_of(rows, n) for n in (1, 2, 3, 4)]
    assert found == pytest.approx([0.7499999999791668, 0.5388159060641506, 0.22351284636816804, 0.0], abs=1e-8)


def test_bleu_s_published_example():
    """Papineni et al. 2002, section 2.1: the modified unigram precision of seven "the" is 2/7."""
    rows = bleu_rows(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    assert bleu_of(rows, 1) == pytest.approx(2 / 7)


def test_meteor_s_published_form():
    """Banerjee and Lavie 2005: all six words match in order, in one chunk: 1 - 0.5 * (1/6)^3."""
    assert meteor(["the cat sat on the mat"], [["the cat sat on the mat"]]) == pytest.approx([1 - 0.5 / 6**3])
    assert meteor(["dogs running"], [["a dog runs"]])[0] > 0  # stems
    assert meteor(["hound"], [["dog"]])[0] == 0  # no synonyms


def test_bad_captions_score_nothing():
    assert cider(["zebra", "", "a dog"], [["a cat sat"], ["a man ran"], ["a tree fell"]])[:2].tolist() == [0, 0]
    assert rouge_l(["", "x"], [["a"], ["y"]]).tolist() == [0, 0]


def test_kappa_s_textbook_example():
    """50 proposals, both yes 20, both no 15, disagreeing 5 and 10: kappa 0.4."""
    a = [True] * 20 + [True] * 5 + [False] * 10 + [False] * 15
    b = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_rank_correlation_s_textbook_example():
    """IQ and hours of television: rho is -29/165."""
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(iq, hours) == pytest.approx(-29 / 165)
    assert spearman([1, 1, 2], [3, 3, 9]) == pytest.approx(1)  # ties share a rank
    assert pearson([0, 1, 2, 3], [1, 3, 5, 7]) == pytest.approx(1)
    assert np.isnan(pearson([1, 1], [0, 2]))


@pytest.mark.parametrize(
    ("text", "right", "expected"),
    [
        ("The red star.", ["red star"], (1, 1, 1)),
        ("It is red", ["red"], (0, 1, 0.5)),
        ("Two", ["2"], (1, 1, 1)),
        ("reddish", ["red"], (0, 0, 0)),
        ("", ["red"], (0, 0, 0)),
        ("árbol", ["arbol", "tree"], (1, 1, 1)),
    ],
)
def test_short_answers(text: str, right: list[str], expected: tuple[float, float, float]):
    assert (exact(text, right), contains(text, right), f1(text, right)) == pytest.approx(expected)


def test_yes_no_and_neither():
    assert [yes_or_no(t) for t in ("Yes, a dog.", "no", "Nothing", "", "A yes")] == [True, False, None, None, None]


@pytest.mark.parametrize(
    "text", ["I cannot tell from this video.", "That can't be told.", "It is unclear.", "I don't know"]
)
def test_abstaining(text: str):
    assert abstains(text)


@pytest.mark.parametrize("text", ["A red star.", "No.", "It can be seen on the left.", "Nobody knows him."])
def test_not_abstaining(text: str):
    assert not abstains(text)


def test_average_precision_by_hand():
    """Two right spans. The best guess is wrong, the second and the third are right: precision 1/2, then 2/3, which by
    interpolation holds for both halves of the recall."""
    right = [(0.0, 10.0), (20.0, 30.0)]
    found = [[40.0, 50.0, 0.9], [0.0, 9.0, 0.8], [20.0, 30.0, 0.7]]
    assert average_precision(found, right, 0.5) == pytest.approx(2 / 3)
    assert average_precision(found, right, 0.95) == pytest.approx(0.5 / 3)
    assert average_precision([[0.0, 10.0, 0.5], [0.0, 10.0, 0.4]], right, 0.5) == pytest.approx(0.5)  # taken once
    assert average_precision([], right, 0.5) == 0


SPAN = st.tuples(st.floats(0, 50), st.floats(0.1, 50)).map(lambda t: (t[0], t[0] + t[1]))


@given(SPAN, SPAN)
def test_iou_is_symmetric_and_bounded(a: tuple[float, float], b: tuple[float, float]):
    assert iou(a, b) == pytest.approx(iou(b, a)) and 0 <= iou(a, b) <= 1 and iou(a, a) == pytest.approx(1)


@given(st.lists(SPAN, min_size=1, max_size=6))
def test_what_spans_share_with_themselves_is_their_union(spans: list[tuple[float, float]]):
    assert shared_length(spans, spans) == pytest.approx(union_length(spans))
    assert union_length(spans) <= sum(b - a for a, b in spans) + 1e-9


def test_intervals_are_wider_when_items_of_a_video_go_together():
    """The same 40 numbers: once as 40 videos, once as 4 of which each has ten equal ones."""
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    together = interval("accuracy", values, [str(n // 10) for n in range(40)])
    apart = interval("accuracy", values, [str(n) for n in range(40)])
    assert together.value == apart.value == 0.5
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert (together.items, together.clusters) == (40, 4)
    assert mean_interval(values, [str(n // 10) for n in range(40)]) == together


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    samples = rng.normal(3.0, 1.0, (120, 40))
    found = [interval("f1", row, [str(n) for n in range(40)]) for row in samples]
    assert 0.88 <= np.mean([i.low <= 3.0 <= i.high for i in found]) <= 0.99


def test_intervals_leave_out_what_has_no_score_and_one_video_has_none():
    rows = np.array([1.0, np.nan, 0.0])
    assert interval("f1", rows, ["a", "b", "c"]).items == 2
    alone = interval("f1", np.array([1.0, 0.0]), ["a", "a"])
    assert alone.value == 0.5 and np.isnan(alone.low)


def test_a_paired_difference_is_sharper_than_its_sides():
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    names = [str(n) for n in range(60)]
    over = difference("f1", a, a + 0.25, names)
    assert (over.value, over.low, over.high) == pytest.approx((0.25, 0.25, 0.25))
    side = interval("f1", a, names)
    assert side.high - side.low > 0.3


def test_a_difference_of_corpus_metrics_is_the_difference_of_their_values():
    a, b = bleu_rows(TEXTS, REFERENCES), bleu_rows([r[0] for r in REFERENCES], REFERENCES)
    assert difference("BLEU2", a, b, TEXTS).value == pytest.approx(bleu_of(b, 2) - bleu_of(a, 2))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"), ("b", "B"), (" B ", "B"), ("C.", "C"), ("(c)", "C"), ("(B) a cup", "B"), ("B: a cup", "B"),
        ("B, because it moves", "B"), ("**B**", "B"), ('"B"', "B"), ("B - a cup", "B"), ("A. A cat", "A"), ("a)", "A"),
        ("The answer is B", "B"), ("The answer is B because it moves.", "B"), ("Answer: c", "C"),
        ("the answer is (d).", "D"), ("The correct answer is: A.", "A"), ("Option C", "C"), ("My choice is B.", "B"),
        ("A rocket comes first.", None), ("a rocket", None), ("The answer is a rocket.", None),
        ("Answer: A rocket", None), ("", None), ("  ", None),
        ("Both", None), ("Aa", None), ("E", None), ("I see a cat.", None), ("I.", None), ("The cat is B", None),
    ],
)  # fmt: skip
def test_the_letter_that_an_answer_chooses(text: str, letter: str | None):
    assert chosen_letter(text, "ABCD") == letter


def test_mean_class_accuracy_counts_each_class_once():
    """The right label of three items is class 0 and that of one class 2; no item has class 1."""
    rows = np.array([[0.0, 1], [0, 1], [0, 0], [2, 0]])
    assert value_of("mean_class", rows) == pytest.approx((2 / 3 + 0) / 2)
    found = interval("mean_class", rows, ["a", "b", "c", "d"])  # samples lack a class now and then
    assert found.low <= found.value <= found.high
    assert Classify().score(
        [Item(id=f"{i}", video=Path("v"), references=(right,), choices=("x", "y")) for i, right in enumerate("xxy")],
        [{"labels": [["x", 0.9], ["y", 0.1]]}] * 3,
    )["mean_class"].tolist() == [[0, 1], [0, 1], [1, 0]]
