"""Every head keeps its contract: shapes, padding, blocks, and what it is where it has nothing to add."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.errors import ConfigError
from videollm.retrieval import head as blocks
from videollm.retrieval.clip import (
    ClipAttention,
    JointVisionTransformer,
    TextConfig,
    TextTransformer,
    VisionConfig,
    VisionTransformer,
)
from videollm.retrieval.head import RetrievalHead, VideoRepr, masked_mean, pad_videos, unit
from videollm.retrieval.heads.lstm import LSTM
from videollm.retrieval.heads.mug import MugSTAN
from videollm.retrieval.heads.pooling import MaxPooling, MeanPooling
from videollm.retrieval.heads.stan import STAN, drop_path
from videollm.retrieval.heads.tcn import TCN
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.tight import TightTransformer
from videollm.retrieval.heads.transformer import TemporalTransformer
from videollm.retrieval.heads.videoclip import BertConfig
from videollm.retrieval.heads.xclip import XCLIP
from videollm.retrieval.model import HEADS, HeadConfig, build_head

E, T, L = 16, 5, 6
TOWER = VisionConfig(width=24, layers=3, heads=2, mlp_width=48, patch=4, grid=2, embed_dim=E)
HEAD = HeadConfig(
    layers=2,
    heads=2,
    context=12,
    depth=2,
    max_words=L,
    max_frames=T,
    bert=BertConfig(width=E, layers=2, heads=2, ffn_width=32, vocab_size=120, max_positions=20),
    feature_dim=E,
)
KINDS = [*HEADS]


def make(kind: str, **changes) -> RetrievalHead:
    """A head whose every parameter matters: nothing is zero as at the start of training."""
    torch.manual_seed(0)
    built = build_head(replace(HEAD, kind=kind, **changes), E, VisionTransformer(TOWER)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return built


def make_videos(count: int = 3, length: int = T, seed: int = 1) -> FrameFeatures:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, length, 2, 1 + TOWER.grid**2, TOWER.width, generator=generator)
    return FrameFeatures(hidden, torch.randn(count, length, E, generator=generator), torch.zeros(count, length, 0))


def make_texts(count: int = 4, length: int = L, seed: int = 2) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (count, 1), generator=generator)
    mask[0] = True
    return TextFeatures(
        torch.randn(count, length, E, generator=generator), mask, torch.randn(count, E, generator=generator)
    )


def cut(videos: FrameFeatures, length: int) -> FrameFeatures:
    return FrameFeatures(videos.tokens[:, :length], videos.embed[:, :length], videos.concepts[:, :length])


def real(videos: FrameFeatures) -> torch.Tensor:
    return torch.ones(videos.embed.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_all_pairs_and_every_parameter_learns(kind: str):
    head, videos, texts = make(kind), make_videos(), make_texts()
    video = head.encode_video(videos, real(videos))
    scores = head.score(texts, video)
    assert scores.shape == (4, 3)
    torch.testing.assert_close(head.score(texts, video[1:2]), scores[:, 1:2])
    if parameters := dict(head.named_parameters()):
        scores.square().sum().backward()
        assert not [n for n, p in parameters.items() if p.grad is None or not p.grad.any()]


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str):
    head, videos, texts = make(kind), make_videos(), make_texts()
    short = cut(videos, 3)
    expected = head.score(texts, head.encode_video(short, real(short)))
    mask = real(videos)
    mask[:, 3:] = False
    torch.testing.assert_close(head.score(texts, head.encode_video(videos, mask)), expected, atol=1e-5, rtol=1e-5)
    noise = TextFeatures(texts.tokens + 9 * ~texts.mask[..., None], texts.mask, texts.embed)
    torch.testing.assert_close(head.score(noise, head.encode_video(videos, mask)), expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["attentive", "xclip", "stan", "mug", "videoclip"])
def test_official_quirks_are_one_switch(kind: str):
    """The published code lets padding show in these; without padding the switch changes nothing."""
    ours, quirky, videos, texts = make(kind), make(kind, official_compat=True), make_videos(), make_texts()
    texts = replace(texts, mask=torch.ones_like(texts.mask))
    mask = real(videos)
    whole = ours.score(texts, ours.encode_video(videos, mask))
    torch.testing.assert_close(quirky.score(texts, quirky.encode_video(videos, mask)), whole)
    mask[:, 3:] = False
    padded = quirky.score(texts, quirky.encode_video(videos, mask))
    assert not torch.allclose(padded, ours.score(texts, ours.encode_video(videos, mask)), atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_of_vectors_finds_what_an_indexable_head_scores(kind: str):
    head, videos, texts = make(kind), make_videos(), make_texts()
    video = head.encode_video(videos, real(videos))
    assert video.embed.shape == (3, E)
    normal = unit if head.unit_length else lambda x: x
    product = normal(texts.embed) @ normal(video.embed).mT
    assert torch.allclose(product, head.score(texts, video), atol=1e-5) == head.indexable
    assert video.frames.shape[1] == (0 if head.indexable else T)


@torch.inference_mode()
@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["tight", "xclip", "mug"]), st.integers(1, 5000), st.integers(1, 9), st.integers(1, 9))
def test_blocks_of_any_size_give_the_same(kind: str, elements: int, texts: int, videos: int):
    head, text, frames = make(kind), make_texts(texts), make_videos(videos)
    video = head.encode_video(frames, real(frames))
    expected = head.score(text, video)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ELEMENTS", elements)
        torch.testing.assert_close(head.score(text, video), expected, atol=1e-5, rtol=1e-5)


def mean_scores(videos: FrameFeatures, mask: torch.Tensor, texts: TextFeatures) -> torch.Tensor:
    """Mean pooling, one video at a time."""
    pooled = [F.normalize(v[m], dim=1).mean(0) for v, m in zip(videos.embed, mask, strict=True)]
    return F.normalize(texts.embed, dim=1) @ F.normalize(torch.stack(pooled), dim=1).mT


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["mean", "tcn", "transformer", "lstm", "attentive", "max"])
def test_reduces_to_mean_pooling(kind: str):
    torch.manual_seed(0)
    head = build_head(replace(HEAD, kind=kind), E)
    videos, texts = make_videos(), make_texts()
    mask = torch.arange(T) < torch.tensor([5, 2, 4])[:, None]
    if isinstance(head, TemporalTransformer):  # u = 2 v
        for name, parameter in head.named_parameters():
            if "out_proj" in name or "c_proj" in name or name == "positions":
                nn.init.zeros_(parameter)
    elif isinstance(head, LSTM | AttentiveAggregation):
        for name, parameter in head.named_parameters():
            if name.startswith(("lstm", "weight", "temporal")):
                nn.init.zeros_(parameter)
    elif isinstance(head, MaxPooling):  # of one frame
        mask = torch.arange(T).expand(3, -1) < 1
    else:
        assert isinstance(head, MeanPooling | TCN)  # a TCN starts as mean pooling
    scores = head.score(texts, head.encode_video(videos, mask))
    torch.testing.assert_close(scores, mean_scores(videos, mask, texts))


@torch.inference_mode()
def test_max_pooling_is_the_maximum():
    head, videos, texts = make("max"), make_videos(), make_texts()
    mask = torch.arange(T) < torch.tensor([5, 2, 4])[:, None]
    best = [F.normalize(v[m], dim=1).max(0).values for v, m in zip(videos.embed, mask, strict=True)]
    expected = F.normalize(texts.embed, dim=1) @ F.normalize(torch.stack(best), dim=1).mT
    torch.testing.assert_close(head.score(texts, head.encode_video(videos, mask)), expected)


@torch.inference_mode()
def test_lstm_needs_no_packing():
    head, videos = make("lstm"), make_videos()
    assert isinstance(head, LSTM)
    lengths = torch.tensor([5, 2, 4])
    mask = torch.arange(T) < lengths[:, None]
    packed = pack_padded_sequence(videos.embed, lengths, batch_first=True, enforce_sorted=False)
    out, _ = pad_packed_sequence(head.lstm(packed)[0], batch_first=True)
    mixed = head.mix(videos.embed, mask)
    torch.testing.assert_close(mixed[mask], (out + videos.embed)[mask])


@torch.inference_mode()
def test_tight_computes_only_what_is_read():
    head, videos, texts = make("tight"), make_videos(), make_texts()
    assert isinstance(head, TightTransformer)
    mask = torch.arange(T) < torch.tensor([5, 2, 4])[:, None]
    fast = head.score(texts, head.encode_video(videos, mask))
    for i in range(4):
        for j in range(3):
            sequence = torch.cat((texts.embed[i : i + 1], videos.embed[j][mask[j]]))
            x = head.pair_transformer((sequence + head.pair_positions[: len(sequence)])[None])
            x = head.dense(head.ln_pool(x)[:, 0])
            torch.testing.assert_close(fast[i, j], head.output(x * torch.sigmoid(1.702 * x))[0, 0])


def soft(x: torch.Tensor, temperature: float, matrix: torch.Tensor | None = None) -> torch.Tensor:
    weight = torch.softmax(x / temperature, 0)
    return (x * (weight if matrix is None else weight @ matrix)).sum()


@torch.inference_mode()
def test_x_clip_pair_by_pair():
    head, videos, texts = make("xclip"), make_videos(), make_texts()
    assert isinstance(head, XCLIP)
    texts = replace(texts, mask=torch.ones_like(texts.mask))
    fast = head.score(texts, head.encode_video(videos, real(videos)))
    pooled = unit(head.temporal.encode_video(videos, real(videos)).embed)
    for i in range(4):
        for j in range(3):
            s, words, v, frames = unit(texts.embed[i]), unit(texts.tokens[i]), pooled[j], unit(videos.embed[j])
            grid = words @ head.frame_word @ frames.mT
            by_frame = torch.stack([soft(column, 0.01, head.words_first) for column in grid.mT])
            by_word = torch.stack([soft(row, 0.01, head.frames_first) for row in grid])
            both = soft(by_frame, 0.01, head.then_frames) + soft(by_word, 0.01, head.then_words)
            parts = (
                s @ head.video_sentence @ v,
                soft(words @ v, 0.01, head.video_word),
                soft(frames @ s, 0.01, head.sentence_frame),
                both / 2,
            )
            torch.testing.assert_close(fast[i, j], sum(parts) / 4, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_x_clip_starts_as_cosines():
    head = build_head(replace(HEAD, kind="xclip", temporal="mean"), E)
    videos, texts = cut(make_videos(), 1), make_texts(length=1)
    s, w, f = unit(texts.embed), unit(texts.tokens[:, 0]), unit(videos.embed[:, 0])
    scores = head.score(texts, head.encode_video(videos, real(videos)))
    torch.testing.assert_close(scores, (s @ f.mT + w @ f.mT) / 2)


@torch.inference_mode()
def test_mug_pair_by_pair():
    head, videos, texts = make("mug"), make_videos(), make_texts()
    assert isinstance(head, MugSTAN)
    fast = head.score(texts, head.encode_video(videos, real(videos)))
    frames = head.stan.frame_embeddings(videos.tokens, real(videos))
    for i in range(4):
        for j in range(3):
            grid = unit(texts.tokens[i][texts.mask[i]]) @ unit(frames[j]).mT
            a = soft(torch.stack([soft(row, 0.01) for row in grid]), 0.01)
            b = soft(torch.stack([soft(column, 0.01) for column in grid.mT]), 0.01)
            torch.testing.assert_close(fast[i, j], (a + b) / 2, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("across", ["attention", "conv3d"])
def test_stan_sees_order_once_it_is_trained(across: str):
    torch.manual_seed(0)
    tower = VisionTransformer(TOWER)
    head = STAN(E, tower=tower, depth=2, across=across).eval()
    for copied, source in zip(head.within, list(tower.transformer.resblocks)[-2:], strict=True):
        for ours, theirs in zip(copied.parameters(), source.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours is not theirs
    head.time_embedding.weight.zero_()
    videos = make_videos()
    backwards = FrameFeatures(videos.tokens.flip(1), videos.embed.flip(1), videos.concepts)

    def encode(video: FrameFeatures) -> torch.Tensor:
        return head.encode_video(video, real(video)).embed

    torch.testing.assert_close(encode(videos), encode(backwards), atol=1e-5, rtol=1e-5)
    for layer in head.across:
        nn.init.normal_(layer.fc.weight, std=0.3)
    if across == "attention":  # which has no order but that of times
        torch.testing.assert_close(encode(videos), encode(backwards), atol=1e-5, rtol=1e-5)
        nn.init.normal_(head.time_embedding.weight)
    assert not torch.allclose(encode(videos), encode(backwards), atol=1e-3)


def test_stan_shares_the_towers_output_layers():
    tower = VisionTransformer(TOWER)
    head = build_head(replace(HEAD, kind="stan"), E, tower)
    assert isinstance(head, STAN)
    assert head.proj is tower.proj
    assert head.positions is tower.positional_embedding
    with pytest.raises(ConfigError, match="reads the hidden layers of a frame-wise visual tower"):
        build_head(replace(HEAD, kind="stan"), E)
    with pytest.raises(ConfigError, match="depth is 4; it must be at least 1 and at most the tower's 3 layers"):
        STAN(E, tower=tower, depth=4)


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3), 0.25, training=True)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(dropped[:, 0, 0], dropped[:, 1, 2])
    assert torch.equal(drop_path(dropped, 0.25, training=False), dropped)


@pytest.mark.parametrize("kind", ["transformer", "tight"])
def test_transformers_start_from_the_text_tower(kind: str):
    text = TextTransformer(
        TextConfig(width=E, layers=3, heads=2, mlp_width=4 * E, context=12, vocab_size=20, embed_dim=E)
    )
    head = build_head(replace(HEAD, kind=kind), E)
    assert isinstance(head, TemporalTransformer | TightTransformer)
    head.init_from(text)
    ours = head.transformer if isinstance(head, TemporalTransformer) else head.pair_transformer
    for i, block in enumerate(ours.resblocks):
        for name, parameter in block.named_parameters():
            assert torch.equal(parameter, text.transformer.resblocks[i].get_parameter(name))


@torch.inference_mode()
def test_3d_patches_with_empty_sides_are_2d_patches():
    torch.manual_seed(0)
    flat = VisionTransformer(TOWER).eval()
    deep = VisionTransformer(replace(TOWER, patches="3d")).eval()
    state = {name: value for name, value in flat.state_dict().items() if name != "conv1.weight"}
    kernel = F.pad(flat.get_parameter("conv1.weight")[:, :, None], (0, 0, 0, 0, 1, 1))
    deep.load_state_dict({**state, "conv2.weight": kernel})
    video = torch.randn(2, T, 3, 8, 8)
    mask = torch.arange(T) < torch.tensor([5, 3])[:, None]
    ours, plain = deep(video, mask, 2), flat(video, mask, 2)
    torch.testing.assert_close(ours.embed[mask], plain.embed[mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.tokens[mask], plain.tokens[mask], atol=1e-5, rtol=1e-5)
    nn.init.normal_(deep.get_parameter("conv2.weight"))
    whole = deep(video[1:, :3], mask[1:, :3]).embed
    torch.testing.assert_close(deep(video, mask).embed[1:, :3], whole, atol=1e-5, rtol=1e-5)
    changed = video.clone()
    changed[0, 1] += 1
    moved = (deep(changed, mask).embed != deep(video, mask).embed).any(-1)
    assert moved[0].tolist() == [True, True, True, False, False]


@torch.inference_mode()
def test_joint_attention_over_one_frame_is_a_plain_tower():
    torch.manual_seed(0)
    flat = VisionTransformer(TOWER).eval()
    joint = JointVisionTransformer(replace(TOWER, patches="joint", frames=4)).eval()
    state = {**flat.state_dict(), "temporal_positional_embedding": torch.zeros(1, 4, TOWER.width)}
    state["conv1.weight"] = state["conv1.weight"][:, :, None]
    joint.load_state_dict(state)
    image, one = torch.randn(2, 1, 3, 8, 8), torch.ones(2, 1, dtype=torch.bool)
    torch.testing.assert_close(joint(image, one).embed, flat(image, one).embed, atol=1e-5, rtol=1e-5)
    video, mask = torch.randn(2, 4, 3, 8, 8), torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(joint(video.flip(1), mask).embed, joint(video, mask).embed, atol=1e-5, rtol=1e-5)
    nn.init.normal_(joint.get_parameter("temporal_positional_embedding"))
    assert not torch.allclose(joint(video.flip(1), mask).embed, joint(video, mask).embed, atol=1e-3)
    with pytest.raises(ConfigError, match="3 steps of 1 frames, this model takes 4 or 1"):
        joint(video[:, :3], mask[:, :3])


def test_joint_attention_hides_patches_in_training_only():
    torch.manual_seed(0)
    joint = JointVisionTransformer(replace(TOWER, patches="joint", frames=4, masking=0.75)).eval()
    video, mask = torch.randn(2, 4, 3, 8, 8), torch.ones(2, 4, dtype=torch.bool)
    seen: list[int] = []
    joint.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    joint(video, mask)
    joint.train()
    hidden = joint(video, mask).embed
    assert seen == [1 + 16, 1 + 4]
    assert not torch.equal(joint(video, mask).embed, hidden)


@torch.inference_mode()
def test_blocks_agree_with_torchs_attention():
    torch.manual_seed(0)
    tower = VisionTransformer(TOWER)
    assert isinstance(tower, VisionTransformer)
    attention = tower.transformer.resblocks[0].attn
    official = nn.MultiheadAttention(TOWER.width, TOWER.heads, batch_first=True)
    official.load_state_dict(attention.state_dict())
    x = torch.randn(3, 7, TOWER.width)
    mask = torch.arange(7) < torch.tensor([7, 2, 4])[:, None]
    expected = official(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    torch.testing.assert_close(attention(x, mask), expected)
    torch.testing.assert_close(attention(x, mask, queries=2), expected[:, :2])
    later = torch.ones(7, 7, dtype=torch.bool).triu(1)
    torch.testing.assert_close(attention(x, causal=True), official(x, x, x, attn_mask=later, need_weights=False)[0])


def test_videos_of_different_lengths_become_a_batch():
    videos = [FrameFeatures(torch.randn(n, 3, 2), torch.randn(n, E), torch.randn(n, 4)) for n in (2, 4)]
    batch, mask = pad_videos(videos)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(batch.embed[0, :2], videos[0].embed)
    assert not batch.tokens[0, 2:].any()
    expected = torch.stack([v.embed.mean(0) for v in videos])
    torch.testing.assert_close(masked_mean(batch.embed, mask), expected)
    assert len(VideoRepr.of(batch.embed[:, 0])[1:]) == 1


def test_inputs_that_do_not_fit_say_so():
    videos, texts = make_videos(length=13), make_texts(length=7)
    for kind, limit in (("transformer", "13 frames, this head has positions for 12"), ("tight", "positions for 11")):
        with pytest.raises(ConfigError, match=limit):
            make(kind).encode_video(videos, real(videos))
    head = make("xclip")
    with pytest.raises(ConfigError, match="13 frames, this head takes at most 5"):
        head.encode_video(videos, real(videos))
    few = make_videos()
    with pytest.raises(ConfigError, match="7 words, this head takes at most 6"):
        head.score(texts, head.encode_video(few, real(few)))
    quirky, two = make("xclip", official_compat=True), cut(few, 2)
    with pytest.raises(ConfigError, match="2 frames, this head takes exactly 5"):
        quirky.encode_video(two, real(two))
    with pytest.raises(ConfigError, match="no head 'median': choose from mean, plain_mean, max"):
        HeadConfig(kind="median")
    with pytest.raises(ConfigError, match="no head mixes frames by 'xclip': choose from mean"):
        HeadConfig(kind="attentive", temporal="xclip")


@pytest.mark.parametrize(("causal", "masked"), [(False, False), (True, False), (False, True)])
def test_attention_in_bfloat16_on_a_cpu_is_the_fused_one(causal: bool, masked: bool):
    """Values and gradients of short sequences, written out while training, against float32's fused attention."""
    torch.manual_seed(0)
    attention = ClipAttention(32, 4)
    mask = torch.arange(20) < torch.tensor([[20], [7], [1]]) if masked else None
    found = []
    for low in (False, True):
        x = torch.randn(3, 20, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = attention(x, mask, causal)
        out.float().square().sum().backward()
        found.append((out.detach().float(), x.grad))
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).abs().max() < 0.02 * exact.abs().max()
