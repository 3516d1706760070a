"""BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), unsmoothed and with the closest reference length, as the COCO
caption evaluation has it. sacrebleu counts; the rows are its counts, so that a part of a corpus has a BLEU too."""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from videollm.datasets.schema import words

ORDERS = (1, 2, 3, 4)

_COUNTER = BLEU(tokenize="none", smooth_method="none", force=True, effective_order=True)  # no warnings


def bleu_rows(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(n,10): matching n-grams and n-grams of orders 1 to 4, the text's length, the closest reference's."""
    rows = []
    for text, right in zip(texts, references, strict=True):
        found = _COUNTER.sentence_score(" ".join(words(text)), [" ".join(words(r)) for r in right])
        rows.append([*found.counts, *found.totals, found.sys_len, found.ref_len])
    return np.array(rows, float)


def bleu_of(rows: np.ndarray, order: int) -> float:
    """BLEU of that order, 0 to 1, of the corpus that has these rows."""
    total = rows.sum(0).astype(int).tolist()
    made = BLEU.compute_bleu(
        total[:order], total[4 : 4 + order], total[8], total[9], smooth_method="none", max_ngram_order=order
    )
    return made.score / 100
