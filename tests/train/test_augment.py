"""Random changes of the clips that training sees."""

import pytest
import torch

from train.configs.retrieval import RETRIEVAL
from train.data.augment import CHANGES, augmented
from videollm.errors import ConfigError


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips, of 8 and of 3 frames, whose frames have the number of the frame at all pixels, times 10."""
    pixels = (10 * torch.arange(1, 9, dtype=torch.uint8))[None, :, None, None, None].repeat(2, 1, 3, 16, 16)
    mask = torch.arange(8) < torch.tensor([[8], [3]])
    return pixels.masked_fill(~mask[..., None, None, None], 255), mask


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_keeps_shapes_real_frames_and_their_order(kind: str):
    pixels, mask = clips()
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        changed, real = augmented(pixels, mask, [kind])
        assert (changed.shape, changed.dtype, real.shape) == (pixels.shape, torch.uint8, mask.shape)
        lengths = real.sum(1)
        assert (lengths >= 1).all() and (lengths <= mask.sum(1)).all()
        assert torch.equal(real, torch.arange(8) < lengths[:, None])  # padding stays last
        assert not changed[~real].any()  # and nothing of it came into the clip
        firsts = changed[0, real[0], 0, 0, 0].tolist()
        assert firsts == sorted(firsts)
        seen.add((tuple(firsts), tuple(lengths.tolist())))
    assert len(seen) > 1 or kind == "crop"  # a crop of a frame of one colour is the same


def test_a_crop_is_a_part_of_the_frame_and_the_same_part_of_all_frames():
    torch.manual_seed(0)
    ramp = torch.arange(16, dtype=torch.uint8).expand(1, 2, 3, 16, 16).contiguous()
    changed, _ = augmented(ramp, torch.ones(1, 2, dtype=torch.bool), ["crop"])
    assert torch.equal(changed[0, 0], changed[0, 1])
    assert int(changed.max()) - int(changed.min()) < 15


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(ConfigError, match="augment has blur; choose from crop, colour"):
        RETRIEVAL["debug"].changed(augment="crop,blur")
    with pytest.raises(ConfigError, match="frozen"):
        RETRIEVAL["world"].changed(augment="crop")
