import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videollm.encoders.base import Vocabulary
from videollm.encoders.concepts import imagenet_concepts, membership
from videollm.encoders.tags import concept_probabilities, select_tags

VOCABULARY = imagenet_concepts().vocabulary
MEMBERSHIP = membership(VOCABULARY)


def concepts(frames: int = 2, **leaves: float) -> torch.Tensor:
    """(T,C) where the named classes have these probabilities and the rest is spread evenly."""
    posterior = torch.full((1000,), (1 - sum(leaves.values())) / (1000 - len(leaves)))
    for word, p in leaves.items():
        posterior[VOCABULARY.words.index(word.replace("_", " "))] = p
    return (posterior @ MEMBERSHIP).expand(frames, -1)


def words(probs: torch.Tensor, k: int = 3, threshold: float = 0.2) -> list[str]:
    return [tag.word for tag in select_tags(probs, VOCABULARY, k=k, threshold=threshold)]


def test_a_certain_class_is_named():
    assert words(concepts(candle=0.7)) == ["candle"]


def test_related_classes_are_named_by_what_they_share():
    assert words(concepts(tench=0.15, goldfish=0.15, eel=0.15, lionfish=0.15)) == ["fish"]


def test_unrelated_classes_are_all_named_most_probable_first():
    assert words(concepts(lab_coat=0.3, petri_dish=0.45)) == ["petri dish", "lab coat"]
    assert words(concepts(lab_coat=0.3, petri_dish=0.45), k=1) == ["petri dish"]


def test_an_ignorant_posterior_names_nothing():
    """Two fifths of the classes are animals, so their sum is large without any evidence."""
    probs = concepts()
    assert probs[0, VOCABULARY.words.index("animal")] > 0.35
    assert words(probs) == []


def test_the_mean_over_frames_counts():
    assert words(torch.cat([concepts(1, candle=0.9), concepts(1)])) == ["candle"]
    assert words(torch.cat([concepts(1, candle=0.9), concepts(5)])) == []


def test_probabilities_are_those_of_the_words():
    (tag,) = select_tags(concepts(candle=0.7), VOCABULARY, k=3, threshold=0.2)
    assert tag.prob == pytest.approx(0.7, abs=1e-5)


@given(st.integers(0, 999), st.floats(0, 9), st.integers(0, 6), st.floats(0, 0.5))
def test_no_word_above_another_and_none_below_the_threshold(seed: int, sharpness: float, k: int, threshold: float):
    logits = sharpness * torch.randn(1000, generator=torch.Generator().manual_seed(seed))
    probs = (logits.softmax(0) @ MEMBERSHIP)[None]
    tags = select_tags(probs, VOCABULARY, k=k, threshold=threshold)
    assert len(tags) <= k
    assert [tag.prob for tag in tags] == sorted((tag.prob for tag in tags), reverse=True)
    for tag in tags:
        assert tag.prob >= threshold
        above = VOCABULARY.parents[VOCABULARY.words.index(tag.word)]
        while above >= 0:
            assert VOCABULARY.words[above] not in {other.word for other in tags}
            above = VOCABULARY.parents[above]


@given(st.permutations([0.5, 0.3, 0.1, 0.06, 0.04]), st.integers(1, 5))
def test_a_flat_vocabulary_gives_the_most_probable(probs: list[float], k: int):
    flat = Vocabulary(tuple("abcde"), (-1,) * 5)
    tags = select_tags(torch.tensor([probs]), flat, k=k, threshold=0.25)
    assert [round(tag.prob, 4) for tag in tags] == [0.5]  # 0.3 of five is hardly more than chance
    assert tags[0].word == "abcde"[probs.index(0.5)]


def test_concept_probabilities_are_a_softmax_of_scaled_cosines():
    frames, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    made = concept_probabilities(frames, texts, 2.0)
    assert made.tolist()[0] == pytest.approx([math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)])


def test_the_vocabulary_is_a_tree_over_the_classes():
    assert len(VOCABULARY.words) == len(VOCABULARY.parents) == len(set(VOCABULARY.words))
    assert set(range(1000)).isdisjoint(VOCABULARY.parents)  # classes are leaves
    assert set(range(1000, len(VOCABULARY.words))) <= set(VOCABULARY.parents)  # and the only ones
    assert MEMBERSHIP.shape == (1000, len(VOCABULARY.words))
    assert all(word == word.lower() and "(" not in word and "/" not in word for word in VOCABULARY.words)
    assert len(imagenet_concepts().definitions) == 1000


@pytest.mark.parametrize(
    ("word", "parent"),
    [
        ("bagel", "bread"),
        ("clownfish", "fish"),
        ("coral reef", "coral"),
        ("candle", "light"),
        ("llama", "hoofed animal"),
        ("beagle", "hound"),
        ("hound", "dog"),
        ("dog", "mammal"),
        ("gondola", "boat"),
    ],
)
def test_everyday_words_stand_above_classes(word: str, parent: str):
    above = VOCABULARY.parents[VOCABULARY.words.index(word)]
    assert VOCABULARY.words[above] == parent
