"""Texts changed on purpose: another verb in the place of the right one, and words hidden behind the mask token."""

import random
import re
from collections.abc import Sequence
from pathlib import Path

import torch

VERBS = Path(__file__).parent / "verbs.txt"


class VerbSwap:
    """Replaces one verb phrase of a text by another of its group, so that something else happens to the same things."""

    def __init__(self, groups: Sequence[Sequence[str]]):
        self.group = {phrase: [p for p in group if p != phrase] for group in groups for phrase in group}
        longest_first = sorted(self.group, key=len, reverse=True)
        self.pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})(?!\w)")

    @classmethod
    def read(cls, path: Path = VERBS) -> "VerbSwap":
        """Groups from a file: one a line, its phrases separated by `|`."""
        lines = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return cls([[phrase.strip() for phrase in line] for line in lines])

    def __call__(self, text: str, rng: random.Random) -> str | None:
        """The changed text, or None where it holds no phrase of any group."""
        found = list(self.pattern.finditer(text))
        if not found:
            return None
        match = rng.choice(found)
        return text[: match.start()] + rng.choice(self.group[match[1]]) + text[match.end() :]


def mask_words(
    ids: torch.Tensor, mask: torch.Tensor, mask_id: int, rng: random.Random, share: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide a share of each row's words (at least one): BERT's masked language modelling, without its random words.

    Returns ids (B,L), where mask_id stands for the hidden words, and labels (B,L), which hold them and -100 elsewhere.
    The start token of a row is never hidden.
    """
    ids, labels = ids.clone(), torch.full_like(ids, -100)
    for row, length in enumerate(mask.sum(1).tolist()):
        words = range(1, length)
        chosen = rng.sample(words, max(1, round(share * len(words)))) if len(words) else []
        labels[row, chosen] = ids[row, chosen]
        ids[row, chosen] = mask_id
    return ids, labels
