"""Whether a video shows what any words name, by the frame encoder alone.

Shapes: S segments, W background words, C concepts, E shared width.
"""

import functools
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from videollm import assets
from videollm.encoders.base import FrameEncoder, batch_size

BACKGROUND = 100  # words, evenly taken from the vocabulary, that the asked words are compared with
# Words are near to a segment if it is nearer to them than to NEAR of the background, at a cosine from NEAR_COSINE on.
NEAR, NEAR_COSINE = 0.97, 0.25
# Nearness alone takes a shark for fish and a tiger for a cat. So the probability that words are shown is logistic in
# their cosine c to the segment, their cosine n to the nearest word of the vocabulary, and the logarithm of that word's
# probability p, which counts from RELATED on and fully at n = 1:
#     COSINE c + KNOWN n + CONCEPT max(0, n - RELATED) / (1 - RELATED) log p + CONSTANT
# It was fitted to 4,260 pairs of a word and one of 61 pictures, which are in no evaluation; CONSTANT is for as many
# pairs that show the words as others. Fitted to nine tenths of the pictures, it is above SHOWN for 99 of 222 visible
# things of the last tenth and for 63 of 4,038 that are not there. Words that are near, or a probable tag, are 105 and
# 160 of these.
COSINE, KNOWN, CONCEPT, RELATED, CONSTANT = 6.0, 6.0, 0.71, 0.7, -3.7
SHOWN = 0.86
LEAST_PROB = 1e-3  # below which a word's probability says nothing more
LEAST_COSINE = 0.2  # of a segment that is cited as evidence
# Of 82 visible things 3 were nearer than less than UNLIKELY of the background, of the 264 others 98.
UNLIKELY = 0.5


def presence(encoder: FrameEncoder, words: str, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the share (S,) of background words that each segment is less near to than to `words`, and its cosine.

    segments: The embeddings (S,E) of the segments, float32 on the CPU.
    """
    cosines = segments @ encoder.encode_text([words]).embed[0].float().cpu()
    return (segments @ background(encoder).T < cosines[:, None]).float().mean(1), cosines


def near_to(encoder: FrameEncoder, words: str, segments: torch.Tensor) -> list[tuple[int, float]]:
    """Returns the numbers of the segments (S,E) that are near to `words`, with their cosines, best first."""
    near, cosines = presence(encoder, words, segments)
    return _best(cosines, (near >= NEAR) & (cosines >= NEAR_COSINE))


def shown_in(
    encoder: FrameEncoder, words: str, segments: torch.Tensor, concepts: torch.Tensor
) -> list[tuple[int, float]]:
    """Returns the numbers of the segments (S,E) that show what `words` name, with their cosines, best first.

    concepts: The probability of each word of the vocabulary in each segment (S,C), float32 on the CPU.
    """
    shows = Presence(encoder, words)
    return _best(segments @ shows.embed, shows.probabilities(segments, concepts) >= SHOWN)


class Presence:
    """The probability that a segment or a frame shows what `words` name. It was fitted to the encoder of `lite`."""

    def __init__(self, encoder: FrameEncoder, words: str):
        self.embed = encoder.encode_text([words]).embed[0].float().cpu()  # (E,)
        self._nearness, self._concept = (vocabulary_embeddings(encoder) @ self.embed).max(0)

    def probabilities(self, shown: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
        """Returns probabilities (S,) for embeddings (S,E) and the probabilities of concepts (S,C), float32, CPU."""
        evidence = concepts[:, self._concept].clamp(min=LEAST_PROB).log()
        relation = (self._nearness - RELATED).clamp(min=0) / (1 - RELATED)
        logits = COSINE * (shown @ self.embed) + KNOWN * self._nearness + CONCEPT * relation * evidence + CONSTANT
        return logits.sigmoid()


def _best(cosines: torch.Tensor, chosen: torch.Tensor) -> list[tuple[int, float]]:
    numbers = chosen.nonzero().flatten().tolist()
    return sorted(((i, float(cosines[i])) for i in numbers), key=lambda item: -item[1])


@functools.lru_cache(maxsize=4)
def vocabulary_embeddings(encoder: FrameEncoder) -> torch.Tensor:
    """Returns the embeddings (C,E) of all words of the vocabulary, unit vectors, which are kept on disk."""
    words = list(encoder.vocabulary.words)

    def build(target: Path) -> None:
        size = batch_size(torch.device("cpu"))
        parts = [encoder.encode_text(words[at : at + size]).embed for at in range(0, len(words), size)]
        save_file({"embed": torch.cat(parts).float().cpu()}, target / "embed.safetensors")

    inputs = {"encoder": encoder.name, "weights": encoder.revision, "words": words}
    return load_file(assets.derived("vocabulary", inputs, build) / "embed.safetensors")["embed"]


@functools.lru_cache(maxsize=4)
def background(encoder: FrameEncoder) -> torch.Tensor:
    """Returns the embeddings (W,E) of words from all over the vocabulary, unit vectors."""
    words = encoder.vocabulary.words
    return encoder.encode_text(list(words[:: max(1, len(words) // BACKGROUND)])).embed.float().cpu()
