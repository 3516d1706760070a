"""Whether a video shows what any words name, by the frame encoder alone.

Shapes: S segments, W background words, E shared width.
"""

import functools

import torch

from videollm.encoders.base import FrameEncoder

BACKGROUND = 100  # words, evenly taken from the vocabulary, that the asked words are compared with
# Words are shown where a segment is nearer to them than to SHOWN of the background, at a cosine of at least
# SHOWN_COSINE. On 38 photographs and clips this affirms 61 of 128 visible things and 22 of 1,099 that are not there; a
# least cosine of 0.2 affirms 29 of these.
SHOWN, SHOWN_COSINE = 0.97, 0.25
LEAST_COSINE = 0.2  # of a segment that is cited as evidence
# Of 82 visible things 3 were nearer than less than UNLIKELY of the background, of the 264 others 98.
UNLIKELY = 0.5


def presence(encoder: FrameEncoder, words: str, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the share (S,) of background words that each segment is less near to than to `words`, and its cosine.

    segments: The embeddings (S,E) of the segments, float32 on the CPU.
    """
    cosines = segments @ encoder.encode_text([words]).embed[0].float().cpu()
    return (segments @ background(encoder).T < cosines[:, None]).float().mean(1), cosines


def shown_in(encoder: FrameEncoder, words: str, segments: torch.Tensor) -> list[tuple[int, float]]:
    """Returns the numbers of the segments (S,E) that show what `words` name, with their cosines, best first."""
    near, cosines = presence(encoder, words, segments)
    shown = ((near >= SHOWN) & (cosines >= SHOWN_COSINE)).nonzero().flatten().tolist()
    return sorted(((i, float(cosines[i])) for i in shown), key=lambda item: -item[1])


@functools.lru_cache(maxsize=4)
def background(encoder: FrameEncoder) -> torch.Tensor:
    """Returns the embeddings (W,E) of words from all over the vocabulary, unit vectors."""
    words = encoder.vocabulary.words
    return encoder.encode_text(list(words[:: max(1, len(words) // BACKGROUND)])).embed.float().cpu()
