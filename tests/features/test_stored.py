"""Number formats of kept features: what comes back, how far off it is, and what it takes."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videollm import checkpoint
from videollm.features.shards import FeatureShards
from videollm.features.stored import StoredDtype, bytes_per_frame, pack, unpack
from videollm.presets import DEBUG


def tensors(seed: int, spread: float) -> dict[str, torch.Tensor]:
    """Features of three frames, one of them black and one with outliers."""
    generator = torch.Generator().manual_seed(seed)
    tokens = spread * torch.randn(3, 5, 16, generator=generator)
    tokens[0], tokens[1, 0, 0] = 0, 100 * spread
    made = {"tokens": tokens, "embed": torch.randn(3, 8, generator=generator)}
    return {**made, "concepts": torch.rand(3, 4, generator=generator), "times_s": torch.tensor([0.0, 3600.033, 7200.5])}


@given(seed=st.integers(0, 1000), exponent=st.integers(-4, 4))
def test_float8_stays_within_the_stated_error(seed: int, exponent: int):
    """max(|x| / 16, m / 450,000), where m is the frame's largest value."""
    made = tensors(seed, 10.0**exponent)
    back = unpack(pack(made, "float8"))["tokens"]
    largest = made["tokens"].abs().amax((1, 2), keepdim=True)
    bound = torch.maximum(made["tokens"].abs() / 16, largest / 450_000)
    assert ((back - made["tokens"]).abs() <= bound * 1.0001).all()
    assert (back[0] == 0).all()


def test_float8_is_closer_on_average_than_its_bound():
    tokens = tensors(0, 1.0) | {"tokens": torch.randn(8, 50, 64, generator=torch.Generator().manual_seed(0))}
    back = unpack(pack(tokens, "float8"))["tokens"]
    error = (back - tokens["tokens"]).norm() / tokens["tokens"].norm()
    assert 0.02 < float(error) < 0.03


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_wide_formats_change_nothing(dtype: StoredDtype):
    made = tensors(0, 1.0)
    back = unpack(pack(made, dtype))
    assert back.keys() == made.keys() and all(torch.equal(back[k], made[k]) for k in made)


@pytest.mark.parametrize("dtype", ["float16", "float8"])
def test_narrow_formats_keep_times_and_round_what_tags_and_search_compare(dtype: StoredDtype):
    made = tensors(0, 1.0)
    back = unpack(pack(made, dtype))
    assert torch.equal(back["times_s"], made["times_s"])
    for name in ("embed", "concepts"):
        torch.testing.assert_close(back[name].float(), made[name], rtol=1e-3, atol=1e-4)


def test_values_beyond_float16_become_its_largest():
    made = tensors(0, 1.0) | {"tokens": torch.full((1, 1, 1), 1e6)}
    assert unpack(pack(made, "float16"))["tokens"].item() == torch.finfo(torch.float16).max


def test_shards_read_only_their_own_format(tmp_path: Path):
    made = tensors(0, 1.0)
    FeatureShards(tmp_path, "float8").put("key", made, {"note": 1})
    assert FeatureShards(tmp_path).get("key") is None and "key" not in FeatureShards(tmp_path, "float16")
    entry = FeatureShards(tmp_path, "float8").get("key")
    assert entry is not None and entry.meta == {"note": 1}
    assert torch.equal(entry.tensors["tokens"], unpack(pack(made, "float8"))["tokens"])


def test_bytes_per_frame_are_what_a_shard_grows_by():
    encoder = checkpoint.build(DEBUG).encoder
    sizes = {dtype: bytes_per_frame(encoder, dtype) for dtype in ("float32", "float16", "float8")}
    values = encoder.tokens_per_frame * encoder.token_dim
    rest = sizes["float32"] // 4 - values
    assert sizes["float16"] == 2 * (values + rest)
    assert sizes["float8"] == values + 2 * rest + 4  # and a scale
