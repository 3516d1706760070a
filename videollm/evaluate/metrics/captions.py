"""Metrics of captions against references: CIDEr-D, METEOR, ROUGE-L and BLEU, with one row for each text.

The metrics follow the COCO caption evaluation (Chen et al. 2015, https://github.com/tylin/coco-caption) without its
Java programs. Words are split by `videollm.datasets.schema.words` (lower case, no punctuation) instead of the Penn
Treebank tokenizer. Both split a text in the same way unless it has punctuation inside words. METEOR stands in for
SPICE, which needs a parser in Java, because it matches words by their stems wherever they stand.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from nltk.stem import PorterStemmer
from nltk.translate.meteor_score import meteor_score

from videollm.datasets.schema import words
from videollm.evaluate.metrics.bleu import ORDERS, bleu_rows

ABOUT = (
    "BLEU: corpus BLEU by sacrebleu without smoothing. METEOR: nltk's METEOR (Banerjee and Lavie 2005) on exact words "
    "and stems, without the synonyms of WordNet. ROUGE_L: the F-score with beta 1.2. CIDEr: CIDEr-D. ROUGE_L and CIDEr "
    "are equal to those of the COCO caption evaluation on the same words."
)

_BETA = 1.2  # weight of recall in ROUGE-L, `pycocoevalcap/rouge/rouge.py`
_SIGMA = 6.0  # width of CIDEr-D's penalty for a different length, `pycocoevalcap/cider/cider_scorer.py`
_STEMMER = PorterStemmer()


class _NoSynonyms:
    """Replaces WordNet, whose data does not come with nltk and would have to be downloaded."""

    def synsets(self, word: str) -> list[object]:
        return []


def caption_rows(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Returns the rows of all metrics by name, CIDEr first. BLEU has rows of counts (n,10), the others have (n,)."""
    bleu = bleu_rows(texts, references)
    return {
        "CIDEr": cider(texts, references),
        "METEOR": meteor(texts, references),
        "ROUGE_L": rouge_l(texts, references),
        **{f"BLEU{n}": bleu for n in reversed(ORDERS)},
    }


def meteor(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns METEOR (n,), 0 to 1, the maximum over the references of a text."""
    wordnet: object = _NoSynonyms()
    return np.array(
        [
            meteor_score([words(r) for r in right], words(text), stemmer=_STEMMER, wordnet=wordnet)  # type: ignore[arg-type]
            for text, right in zip(texts, references, strict=True)
        ]
    )


def rouge_l(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns ROUGE-L (n,), 0 to 1 (Lin 2004): the F-score of the longest common subsequence.

    Precision and recall are maximised over the references separately, as in the COCO caption evaluation.
    """
    return np.array([_rouge_l(words(t), [words(r) for r in right]) for t, right in zip(texts, references, strict=True)])


def _rouge_l(text: list[str], references: list[list[str]]) -> float:
    common = [_longest_common(text, reference) for reference in references]
    precision = max(common) / max(len(text), 1)
    recall = max(n / max(len(reference), 1) for n, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(a: list[str], b: list[str]) -> int:
    """Returns the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before, row = row, [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


def cider(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns CIDEr-D (n,), 0 to 10 (Vedantam et al. 2015, `pycocoevalcap/cider/cider_scorer.py`).

    The document frequencies of n-grams are counted over the given references.
    """
    counted = [[_ngrams(words(r)) for r in right] for right in references]
    documents: Counter[tuple[str, ...]] = Counter()
    for right in counted:
        documents.update({gram for reference in right for gram in reference})
    log_all = math.log(max(len(references), 1))
    rarity = {gram: log_all - math.log(count) for gram, count in documents.items()}
    scores = []
    for text, right in zip(texts, counted, strict=True):
        own = _ngrams(words(text))
        scores.append(10 * sum(_similarity(own, reference, rarity, log_all) for reference in right) / len(right))
    return np.array(scores)


def _ngrams(tokens: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for n in ORDERS for i in range(len(tokens) - n + 1))


def _similarity(
    text: Counter[tuple[str, ...]],
    reference: Counter[tuple[str, ...]],
    rarity: dict[tuple[str, ...], float],
    most: float,
) -> float:
    """Returns the mean over n-gram orders of the cosine of tf-idf vectors, times the penalty for a different length.

    The counts of the text are clipped to those of the reference, so that repeating a word gains nothing. most: the
    weight of n-grams that occur in no reference.
    """
    products, own, other = ([0.0] * len(ORDERS) for _ in range(3))
    for gram, count in text.items():
        weight = rarity.get(gram, most)
        own[len(gram) - 1] += (count * weight) ** 2
        products[len(gram) - 1] += min(count, reference[gram]) * reference[gram] * weight**2
    for gram, count in reference.items():
        other[len(gram) - 1] += (count * rarity[gram]) ** 2
    longer = _bigrams(text) - _bigrams(reference)
    penalty = math.exp(-(longer**2) / (2 * _SIGMA**2))
    cosines = [p / math.sqrt(a * b) if a and b else 0.0 for p, a, b in zip(products, own, other, strict=True)]
    return penalty * sum(cosines) / len(ORDERS)


def _bigrams(counts: Counter[tuple[str, ...]]) -> int:
    """Returns the number of bigrams, in which the official implementation measures the length of a text."""
    return sum(count for gram, count in counts.items() if len(gram) == 2)
