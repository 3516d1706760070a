"""Temporal modules: one budget, any number of frames and tokens, padding without effect."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from videollm.config import TemporalConfig
from videollm.errors import ConfigError
from videollm.models.concat import ConcatMLP
from videollm.models.merge import merge_tokens
from videollm.models.pool import SpatioTemporalPool, adaptive_pool
from videollm.models.published.video_chatgpt import spatio_temporal_features
from videollm.models.published.video_llama import VideoLlamaQFormer
from videollm.models.qformer import QFormerConfig
from videollm.models.temporal import TEMPORAL, TemporalModule, build_temporal

D, H = 20, 24


def build(kind: str, queries: int = 4, tokens_per_frame: int | None = None) -> TemporalModule:
    torch.manual_seed(0)
    config = TemporalConfig(kind=kind, queries=queries, width=32, heads=4)  # type: ignore[arg-type]
    return build_temporal(config, D, H, tokens_per_frame).eval()


def build_video_llama(queries: int = 4) -> TemporalModule:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 32, "heads": 4, "ffn_width": 64, "layers": 2}
    frame = QFormerConfig(queries=3, encoder_width=D, **sizes)
    video = QFormerConfig(queries=queries, encoder_width=32, cross_attention_every=1, **sizes)
    return VideoLlamaQFormer(H, frame, video, max_frames=9).eval()


def build_stem(queries: int = 4) -> TemporalModule:
    torch.manual_seed(0)
    config = TemporalConfig(kind="concat", queries=queries, stem="motion")
    return build_temporal(config, D, H, None).eval()


def segment(t: int, n: int, b: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    times = torch.rand(b, t, generator=random).cumsum(1) + 60
    return torch.randn(b, t, n, D, generator=random), times, torch.ones(b, t, dtype=torch.bool)


def assert_differ(a: torch.Tensor, b: torch.Tensor) -> None:
    """By a hundred times the rounding error, at least."""
    assert (a - b).abs().max() > 1e-5


@pytest.mark.parametrize("queries", [1, 4, 7])
@pytest.mark.parametrize(("t", "n"), [(1, 1), (1, 5), (3, 1), (3, 5), (8, 7), (2, 2)])
@pytest.mark.parametrize("kind", TEMPORAL)
def test_every_kind_gives_its_budget_for_any_size(kind: str, t: int, n: int, queries: int):
    out = build(kind, queries)(*segment(t, n))
    assert out.shape == (2, queries, H)
    assert out.isfinite().all()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("kind", [*TEMPORAL, "video_llama", "stem"])
def test_masked_frames_never_change_the_result(kind: str, data: st.DataObject):
    """Wherever they stand, whatever they hold, and however often frames repeat."""
    t = data.draw(st.integers(1, 9))
    n = data.draw(st.sampled_from([1, 4, 9]) if kind == "stem" else st.integers(1, 6))
    tokens, times, _ = segment(t, n, b=1, seed=data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        tokens = tokens[:, :1].repeat(1, t, 1, 1)  # a still video
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=t, max_size=t).filter(any)))
    noise = data.draw(st.sampled_from([0.0, 1e4, float("nan")]))
    padded, padded_times = tokens.clone(), times.clone()
    padded[:, ~keep] = noise
    padded_times[:, ~keep] = noise
    queries = data.draw(st.integers(1, 8))
    special = {"video_llama": build_video_llama, "stem": build_stem}
    module = special[kind](queries) if kind in special else build(kind, queries)
    with torch.inference_mode():
        alone = module(tokens[:, keep], times[:, keep], keep[keep][None])
        among = module(padded, padded_times, keep[None])
    torch.testing.assert_close(among, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", TEMPORAL)
def test_rows_of_a_batch_do_not_touch(kind: str):
    module, (tokens, times, mask) = build(kind), segment(6, 5)
    mask[1, 4:] = False
    torch.testing.assert_close(module(tokens, times, mask)[:1], module(tokens[:1], times[:1], mask[:1]))


@pytest.mark.parametrize("kind", TEMPORAL)
def test_same_seed_same_module_same_result(kind: str):
    inputs = segment(5, 3)
    assert torch.equal(build(kind)(*inputs), build(kind)(*inputs))


@pytest.mark.parametrize("kind", TEMPORAL)
def test_order_of_frames_matters(kind: str):
    tokens, times, mask = segment(6, 5)
    module = build(kind)
    assert_differ(module(tokens, times, mask), module(tokens.flip(1), times, mask))


@pytest.mark.parametrize("kind", TEMPORAL)
def test_videos_differ_from_the_start(kind: str):
    """A fresh module's tokens tell videos apart: a tenth of their size at least is not the same for all."""
    torch.manual_seed(0)
    config = TemporalConfig(kind=kind, queries=16, width=256, layers=4, heads=4, cross_attention_every=2)  # type: ignore[arg-type]
    module = build_temporal(config, 128, 256, 64)
    content = torch.randn(8, 1, 1, 128) + torch.randn(8, 12, 64, 128)
    with torch.inference_mode():
        out = module(content, torch.arange(12.0).expand(8, -1) / 4, torch.ones(8, 12, dtype=torch.bool))
    assert out.std(0).mean() > 0.1 * out.std()


def test_qformer_reads_elapsed_seconds():
    module, (tokens, _, mask) = build("qformer"), segment(4, 3)
    times = torch.tensor([[0.0, 0.5, 1.0, 1.5]]).expand(2, -1)
    out = module(tokens, times, mask)
    assert torch.equal(out, module(tokens, times + 3600, mask))
    assert_differ(out, module(tokens, times * 2, mask))
    assert_differ(out, module(tokens, times + torch.tensor([0, 0, 0.2, 0.2]), mask))


def test_qformer_tells_places_apart_once_their_number_is_known():
    inputs = segment(4, 3)
    moved = (inputs[0].roll(1, dims=2), *inputs[1:])
    anywhere, placed = build("qformer"), build("qformer", tokens_per_frame=3)
    torch.testing.assert_close(anywhere(*inputs), anywhere(*moved))
    assert_differ(placed(*inputs), placed(*moved))
    with pytest.raises(ConfigError, match=r"5 tokens each.* 3"):
        placed(*segment(4, 5))


@pytest.mark.parametrize("tokens_per_frame", [None, 5])
@pytest.mark.parametrize("kind", TEMPORAL)
def test_gradients_reach_every_parameter_and_token(kind: str, tokens_per_frame: int | None):
    module, (tokens, times, mask) = build(kind, tokens_per_frame=tokens_per_frame), segment(6, 5)
    mask[1, 4:] = False
    module(tokens.requires_grad_(), times, mask).square().sum().backward()
    # A key's bias shifts all of a row's logits alike, which softmax ignores.
    learning = {n: p for n, p in module.named_parameters() if not n.endswith("key.bias")}
    assert [n for n, p in learning.items() if p.grad is None or not p.grad.any()] == []
    assert tokens.grad is not None
    assert torch.equal(tokens.grad.abs().sum(-1) > 0, mask[..., None].expand(-1, -1, 5))


@pytest.mark.parametrize("kind", TEMPORAL)
def test_bfloat16_follows_float32(kind: str):
    # Values that bfloat16 holds, so that merging chooses the same tokens.
    module, (tokens, times, mask) = build(kind), segment(6, 5)
    tokens = tokens.bfloat16().float()
    exact = module(tokens, times, mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = module(tokens, times, mask)
    low = module.bfloat16()(tokens.bfloat16(), times, mask)
    assert low.dtype == torch.bfloat16
    for out in (mixed, low):
        assert (out.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("size", [1, 3, 6, 11])
@pytest.mark.parametrize("length", [1, 4, 6, 13])
def test_adaptive_pool_is_torchs_on_each_rows_real_tokens(length: int, size: int):
    tokens = torch.randn(2, 13, D)
    mask = torch.zeros(2, 13, dtype=torch.bool)
    mask[0, torch.randperm(13)[:length]] = True
    mask[1] = True
    pooled = adaptive_pool(tokens, mask, size)
    for row in range(2):
        expected = F.adaptive_avg_pool1d(tokens[row, mask[row]].T, size).T
        torch.testing.assert_close(pooled[row], expected)


def test_pool_is_video_chatgpts_concatenation_where_it_fits():
    tokens, times, mask = segment(4, 3)
    module = build("pool", queries=7)
    assert isinstance(module, SpatioTemporalPool)
    expected = module.output(torch.cat((tokens.mean(2), tokens.mean(1)), 1))
    torch.testing.assert_close(module(tokens, times, mask), expected)


def test_concat_projects_each_token_where_they_fit():
    tokens, times, mask = segment(4, 3)
    module = build("concat", queries=12)
    assert isinstance(module, ConcatMLP)
    torch.testing.assert_close(module(tokens, times, mask), module.mlp(tokens.flatten(1, 2)))


def test_merge_keeps_what_differs_and_the_order():
    """Seven directions, each seen for a while: merged to seven tokens, each is one direction, first seen first."""
    directions = torch.eye(7, D)
    seen = torch.tensor([0, 0, 0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 4, 4, 5, 6, 6])
    merged = merge_tokens(directions[seen][None], torch.ones(1, len(seen), dtype=torch.bool), 7)
    torch.testing.assert_close(merged[0], directions)


def test_merge_weighs_tokens_by_what_is_in_them():
    tokens = torch.randn(2, 16, D)
    merged = merge_tokens(tokens, torch.ones(2, 16, dtype=torch.bool), 1)
    torch.testing.assert_close(merged[:, 0], tokens.mean(1))


def test_video_llama_has_a_last_frame():
    with pytest.raises(ConfigError, match=r"10 frames.* 9"):
        build_video_llama()(*segment(10, 2))


def test_video_llama_kind_is_built_from_a_config():
    config = TemporalConfig(
        kind="video_llama", queries=4, width=32, heads=4, frame_queries=3, frame_layers=2, mlp_ratio=2, max_frames=9
    )
    module = build_temporal(config, D, H).eval()
    module.load_state_dict(build_video_llama().state_dict())
    args = segment(5, 3)
    torch.testing.assert_close(module(*args), build_video_llama()(*args))


def test_video_chatgpt_kind_gives_the_published_rows():
    config = TemporalConfig(kind="video_chatgpt", queries=12, max_frames=7)
    module = build_temporal(config, D, H, 5).eval()
    tokens, times, mask = segment(4, 5)
    out = module(tokens, times, mask)
    rows = torch.stack([spatio_temporal_features(video, 7).float() for video in tokens])  # rounded to float16
    torch.testing.assert_close(out, module.output(rows), atol=1e-3, rtol=1e-3)
    assert torch.equal(out[:, 4:7], module.output.bias.expand(2, 3, -1))
    mask[0, 1] = False
    padded = module(tokens, times, mask)
    torch.testing.assert_close(padded[:1], module(tokens[:1, [0, 2, 3]], times[:1, [0, 2, 3]], mask[:1, [0, 2, 3]]))
    with pytest.raises(ConfigError, match="has 8 frames, but the temporal module takes at most 7"):
        module(*segment(8, 5))
    with pytest.raises(ConfigError, match="kind video_chatgpt needs 13"):
        build_temporal(config, D, H, 6)
