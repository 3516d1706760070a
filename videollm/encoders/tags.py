"""Concept tags, which are words with probabilities for a part of a video. Any dual encoder can provide them.

Shapes: T frames, C concepts, E width of the space shared by frames and texts.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass

import torch

from videollm.encoders.base import Vocabulary

# The reward in bits for a correct word, however general it is; lambda of Deng et al. With 1 bit, "llama" at 0.26 loses
# to "hoofed animal" at 0.42, while "candle" at 0.30 beats "light" at 0.34.
CERTAINTY_BITS = 1.0
# The evidence that a word must have. A high probability is not enough for a general word: two fifths of ImageNet's
# classes are animals, so a uniform posterior gives "animal" 0.4.
LEAST_BITS = 0.6


@dataclass(frozen=True, slots=True)
class Tag:
    """A word and its probability."""

    word: str
    prob: float


def select_tags(concepts: torch.Tensor, vocabulary: Vocabulary, *, k: int, threshold: float) -> list[Tag]:
    """Returns at most `k` words for one segment, most probable first. No word is above another in the hierarchy.

    The evidence of a word is p * log2(p / prior), its part of the divergence of the frames' posterior from a uniform
    one. p is its mean probability over the frames and prior its share of the leaves. A word needs a probability of
    `threshold` and evidence of `LEAST_BITS`. The choice balances specific words and certain ones as in Deng et al.
    2012, "Hedging Your Bets" (https://doi.org/10.1109/CVPR.2012.6248086): it takes the word with the largest p *
    (log2(p / prior) + CERTAINTY_BITS), then the next that is neither above nor below one taken. In a flat vocabulary
    these are the k most probable words.

    Args:
        concepts: The probabilities in each frame (T,C).
        vocabulary: The words of the concepts.
        k: The largest number of words.
        threshold: The smallest probability.
    """
    probs = concepts.float().mean(0).tolist()
    lineages, priors = _hierarchy(vocabulary)
    rewards = {}
    for concept, p in enumerate(probs):
        if p > 0 and p >= threshold:
            bits = math.log2(p / priors[concept])
            if p * bits >= LEAST_BITS:
                rewards[concept] = p * (bits + CERTAINTY_BITS)
    taken: list[int] = []
    for concept in sorted(rewards, key=rewards.__getitem__, reverse=True):
        if len(taken) < k and not any(c in lineages[concept] or concept in lineages[c] for c in taken):
            taken.append(concept)
    return [Tag(vocabulary.words[i], probs[i]) for i in sorted(taken, key=lambda i: -probs[i])]


def is_below(word: str, general: str, vocabulary: Vocabulary) -> bool:
    """Returns whether a word of the vocabulary is `general` or below it in the hierarchy."""
    if word == general:
        return True
    lineages, _ = _hierarchy(vocabulary)
    return any(vocabulary.words[concept] == general for concept in lineages[vocabulary.words.index(word)])


def kin(word: str, vocabulary: Vocabulary) -> frozenset[str]:
    """Returns a word of the vocabulary with all words above and below it in the hierarchy."""
    lineages, _ = _hierarchy(vocabulary)
    own = vocabulary.words.index(word)
    below = {number for number, lineage in enumerate(lineages) if own in lineage}
    return frozenset(vocabulary.words[number] for number in lineages[own] | below)


def concept_probabilities(embed: torch.Tensor, text_embed: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Returns the zero-shot probabilities (T,C) of texts (C,E) for frames (T,E), given as unit vectors. Rows sum to 1.

    scale: The trained inverse temperature of the encoder (exp(logit_scale) in CLIP, Radford et al. 2021).
    """
    return (scale * embed @ text_embed.T).softmax(-1)


@functools.lru_cache(maxsize=8)
def _hierarchy(vocabulary: Vocabulary) -> tuple[list[set[int]], list[float]]:
    """Returns, for each concept, the set of itself and all concepts above it, and its share of the leaves."""
    lineages = []
    for concept in range(len(vocabulary.words)):
        lineage = set()
        while concept >= 0:
            lineage.add(concept)
            concept = vocabulary.parents[concept]
        lineages.append(lineage)
    leaves = set(range(len(lineages))) - set(vocabulary.parents)
    below = Counter(concept for leaf in leaves for concept in lineages[leaf])
    return lineages, [below[concept] / len(leaves) for concept in range(len(lineages))]
