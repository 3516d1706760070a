"""How near a text is to its references, a row for each text: METEOR, ROUGE-L and CIDEr-D, and BLEU's counts.

No Java: words are `videollm.datasets.schema.words` (lower case, no punctuation), where the COCO caption evaluation runs
the Penn Treebank tokenizer; on text without punctuation inside words both give the same.
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
    "BLEU: of the corpus, by sacrebleu, unsmoothed. METEOR: nltk's (Banerjee and Lavie 2005), exact words and stems, "
    "without WordNet's synonyms. ROUGE-L: F with beta 1.2 and CIDEr: CIDEr-D, both as in the COCO caption evaluation, "
    "whose numbers they give on the same words."
)

_BETA = 1.2  # of ROUGE-L, in the COCO caption evaluation
_SIGMA = 6.0  # of CIDEr-D's penalty for another length
_STEMMER = PorterStemmer()


class _NoSynonyms:
    """In the place of WordNet, which nltk does not bring."""

    def synsets(self, word: str) -> list[object]:
        return []


def caption_rows(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """All of them, CIDEr first."""
    bleu = bleu_rows(texts, references)
    return {
        "CIDEr": cider(texts, references),
        "METEOR": meteor(texts, references),
        "ROUGE_L": rouge_l(texts, references),
        **{f"BLEU{n}": bleu for n in reversed(ORDERS)},
    }


def meteor(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(n,), the best over a text's references."""
    wordnet: object = _NoSynonyms()
    return np.array(
        [
            meteor_score([words(r) for r in right], words(text), stemmer=_STEMMER, wordnet=wordnet)  # type: ignore[arg-type]
            for text, right in zip(texts, references, strict=True)
        ]
    )


def rouge_l(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(n,), Lin 2004: F of the best precision and the best recall of the longest common subsequence."""
    return np.array([_rouge_l(words(t), [words(r) for r in right]) for t, right in zip(texts, references, strict=True)])


def _rouge_l(text: list[str], references: list[list[str]]) -> float:
    common = [_longest_common(text, reference) for reference in references]
    precision = max(common) / max(len(text), 1)
    recall = max(n / max(len(reference), 1) for n, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before, row = row, [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
    return row[-1]


def cider(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D (n,), 0 to 10 (Vedantam et al. 2015). How rare an n-gram is, is counted over the references given."""
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
    """Mean over orders of the cosine of weighted counts, those of the text clipped to the reference's."""
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
    """The reference implementation measures length in bigrams."""
    return sum(count for gram, count in counts.items() if len(gram) == 2)
