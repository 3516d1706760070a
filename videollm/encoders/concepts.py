"""The vocabulary of the lite encoder: the classes of ImageNet-1k, and everyday words of WordNet 3.0 above them.

`scripts/make_concepts.py` writes `data/imagenet_concepts.json`.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from importlib import resources

import torch

from videollm.encoders.base import Vocabulary

CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class ImageNetConcepts:
    """The classes of ImageNet-1k with the words above them.

    Attributes:
        vocabulary: The classes in ImageNet's order, then the words above them.
        definitions: One definition per class.
        sha: A hash that identifies the content.
    """

    vocabulary: Vocabulary
    definitions: tuple[str, ...]
    sha: str


@functools.cache
def imagenet_concepts() -> ImageNetConcepts:
    """Returns the vocabulary, which is read once."""
    data = resources.files("videollm.encoders").joinpath("data/imagenet_concepts.json").read_bytes()
    columns = json.loads(data)
    return ImageNetConcepts(
        vocabulary=Vocabulary(tuple(columns["words"]), tuple(columns["parents"])),
        definitions=tuple(columns["definitions"]),
        sha=hashlib.sha256(data).hexdigest()[:12],
    )


def membership(vocabulary: Vocabulary) -> torch.Tensor:
    """Returns a matrix (L,C) that is 1 where leaf l, in the order of the vocabulary, is concept c or below it, else 0.

    Leaf probabilities (T,L) times this matrix are the probabilities of all concepts (T,C).
    """
    inner = set(vocabulary.parents)
    leaves = [i for i in range(len(vocabulary.words)) if i not in inner]
    matrix = torch.zeros(len(leaves), len(vocabulary.words))
    for row, concept in enumerate(leaves):
        while concept >= 0:
            matrix[row, concept] = 1
            concept = vocabulary.parents[concept]
    return matrix
