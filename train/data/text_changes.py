"""Texts changed on purpose: another verb in the place of the right one, and words hidden behind the mask token."""

import random
import re
from collections.abc import Sequence
from pathlib import Path

import torch

VERBS = Path(__file__).parent / "verbs.txt"


class VerbSwap:
    """Changes what happens in a text and nothing else: one verb phrase for another of its group.

    Groups are lines of phrases that can stand for each other, with `|` between them.
    """

    def __init__(self, groups: Sequence[Sequence[str]]):
        self.group = {phrase: [p for p in group if p != phrase] for group in groups for phrase in group}
        longest_first = sorted(self.group, key=len, reverse=True)
        self.pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})(?!\w)")

    @classmethod
    def read(cls, path: Path = VERBS) -> "VerbSwap":
        lines = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return cls([[phrase.strip() for phrase in line] for line in lines])

    def __call__(self, text: str, rng: random.Random) -> str | None:
        """None where no phrase of the list is in the text."""
        found = list(self.pattern.finditer(text))
        if not found:
            return None
        match = rng.choice(found)
        return text[: match.start()] + rng.choice(self.group[match[1]]) + text[match.end() :]


def mask_words(
    ids: torch.Tensor, mask: torch.Tensor, mask_id: int, rng: random.Random, share: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B,L) with a share of each row's words, at least one, replaced by mask_id; labels (B,L) that hold those words
    and -100 elsewhere. The first token of a row is no word."""
    ids, labels = ids.clone(), torch.full_like(ids, -100)
    for row, length in enumerate(mask.sum(1).tolist()):
        words = range(1, length)
        chosen = rng.sample(words, max(1, round(share * len(words)))) if len(words) else []
        labels[row, chosen] = ids[row, chosen]
        ids[row, chosen] = mask_id
    return ids, labels
