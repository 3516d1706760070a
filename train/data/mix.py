"""Two clips that follow one another, with both their texts (Test of Time, Bagad et al. 2023,
https://arxiv.org/abs/2301.02074).

Half of the frames of each are kept, evenly spread, so that a mixed clip is as long to encode as the two are on average.

Shapes: B clips, T frames.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import torch

from videollm.encoders.audio import AudioFeatures
from videollm.encoders.base import FrameFeatures
from videollm.features.encode import EncodedVideo

SHARE = 0.5  # of the clips that are mixed


def drawn_partners(videos: Sequence[Hashable]) -> torch.Tensor:
    """Returns for each video of a batch the number of the one that follows it, which is its own where none does, (B,).

    Two that are mixed follow each other: both orders are in the batch as negatives that only order tells apart, and
    neither of the pairs that they are made of is. A video does not follow itself. Numbers are drawn from PyTorch's
    generator.
    """
    partners = torch.arange(len(videos))
    couples = torch.randperm(len(videos))[: len(videos) // 2 * 2].view(-1, 2)
    for one, other in couples[torch.rand(len(couples)) < SHARE].tolist():
        if videos[one] != videos[other]:
            partners[one], partners[other] = other, one
    return partners


def mixed_clips(clips: Mapping[str, torch.Tensor], partners: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns each clip followed by its partner, and a clip that is its own partner as it is.

    clips: `mask` (B,T) of real frames, and frames or their features, (B,T,...). Padding becomes 0. T must be at least
    2.
    """
    mask = clips["mask"]
    alone = (partners == torch.arange(len(mask)))[:, None]
    length = mask.sum(1)
    kept = halved(length)
    step = torch.arange(mask.shape[1]).expand_as(mask)
    later = ~alone & (step >= kept[:, None])
    row = torch.where(later, partners[:, None], torch.arange(len(mask))[:, None])
    place = torch.where(later, step - kept[:, None], step)
    frame = torch.where(alone, step, place * length[row] // kept[row]).clamp(max=mask.shape[1] - 1)
    real = torch.where(alone, mask, step < (kept + kept[partners])[:, None])

    def mixed(x: torch.Tensor) -> torch.Tensor:
        return x[row, frame].masked_fill(~real.view(*real.shape, *[1] * (x.dim() - 2)), 0)

    return {name: mixed(x) for name, x in clips.items() if name != "mask"} | {"mask": real}


def mixed_videos(first: EncodedVideo, second: EncodedVideo) -> EncodedVideo:
    """Returns the first video followed by the second, each with half of its frames and all of its sound."""
    one, two = _thinned(first), _thinned(second)
    later = one.end_s - float(two.times_s[0])
    heard = [
        (video.audio.tokens, video.audio.times_s + shift)
        for video, shift in ((one, 0.0), (two, later))
        if video.audio is not None
    ]
    joint = len(one.times_s)
    return replace(
        one,
        times_s=torch.cat((one.times_s, two.times_s + later)),
        features=FrameFeatures.cat([one.features, two.features]),
        cuts=(*one.cuts, joint, *(joint + cut for cut in two.cuts)),
        end_s=two.end_s + later,
        audio=AudioFeatures(*(torch.cat(parts) for parts in zip(*heard, strict=True))) if heard else None,
    )


def mixed_texts(firsts: Sequence[str], seconds: Sequence[str], partners: torch.Tensor) -> list[str]:
    """Returns each of the first texts, followed by the second text of its partner where that is another."""
    pairs = enumerate(zip(firsts, partners.tolist(), strict=True))
    return [text if row == other else joined(text, seconds[int(other)]) for row, (text, other) in pairs]


def joined(first: str, second: str) -> str:
    """Returns both texts as sentences that follow one another, in any language."""
    first = first.rstrip()
    return f"{first}{'' if first.endswith(('.', '!', '?', '。', '！', '？')) else '.'} {second}"


def halved(length: torch.Tensor) -> torch.Tensor:
    """Returns how many of `length` frames are kept: half, and at least one."""
    return (length // 2).clamp(min=1)


def _thinned(video: EncodedVideo) -> EncodedVideo:
    """Returns the video with half of its frames, evenly spread. A scene starts at the first of its frames that is
    left."""
    length = len(video.times_s)
    count = int(halved(torch.tensor(length)))
    kept = torch.arange(count) * length // count
    starts = {int((kept < cut).sum()) for cut in video.cuts}
    cuts = tuple(sorted(start for start in starts if 0 < start < count))
    return replace(video, times_s=video.times_s[kept], features=video.features[kept], cuts=cuts)
