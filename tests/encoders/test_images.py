import pytest
import torch

from videollm.encoders.images import resize_crop, squash, squash_nearest


@pytest.mark.parametrize(("height", "width"), [(32, 32), (300, 40), (33, 500), (8, 9)])
def test_every_size_becomes_a_square(height: int, width: int):
    pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    for made in (resize_crop(pixels, 32), squash(pixels, 32), squash_nearest(pixels, 32)):
        assert made.shape == (2, 3, 32, 32)
        assert made.min() >= 0
        assert made.max() <= 255


def test_the_right_size_is_left_alone():
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(resize_crop(pixels, 32), pixels.float())
    assert torch.equal(squash(pixels, 32), pixels.float())


def test_cropping_keeps_the_middle_and_squashing_keeps_all():
    pixels = torch.zeros(1, 3, 32, 96, dtype=torch.uint8)
    pixels[..., 32:64] = 200
    assert (resize_crop(pixels, 32) == 200).all()
    assert squash(pixels, 32).mean() == pytest.approx(200 / 3, abs=1)


def test_nearest_squashing_makes_no_new_colours():
    pixels = torch.randint(0, 2, (1, 3, 50, 20), dtype=torch.uint8) * 255
    assert set(squash_nearest(pixels, 32).unique().tolist()) <= {0.0, 255.0}
