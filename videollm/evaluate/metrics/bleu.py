"""BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002).

BLEU is computed without smoothing and with the closest reference length, as in the COCO caption evaluation
(https://github.com/tylin/coco-caption, `pycocoevalcap/bleu`). The rows are the counts of sacrebleu for each text, whose
sum gives the BLEU of any part of a corpus.
"""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from videollm.datasets.schema import words

ORDERS = (1, 2, 3, 4)

# `force` and `effective_order` silence warnings about tokenized and single sentences. The counts stay the same.
_COUNTER = BLEU(tokenize="none", smooth_method="none", force=True, effective_order=True)


def bleu_rows(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the counts (n,10) of n texts: matching n-grams of orders 1 to 4, all n-grams of orders 1 to 4, the length
    of the text and the length of the closest reference, in words."""
    rows = []
    for text, right in zip(texts, references, strict=True):
        found = _COUNTER.sentence_score(" ".join(words(text)), [" ".join(words(r)) for r in right])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.array(rows, float)


def bleu_of(rows: np.ndarray, order: int) -> float:
    """Returns the BLEU of an order, 0 to 1, of the corpus with these rows (n,10)."""
    total = rows.sum(0).astype(int).tolist()
    made = BLEU.compute_bleu(
        total[:order], total[4 : 4 + order], total[8], total[9], smooth_method="none", max_ngram_order=order
    )
    return made.score / 100
