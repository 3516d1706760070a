"""BLIP-2's and Video-LLaMA's Q-Formers give the numbers of the official code, from the official names."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.parity import load_parity
from videollm.errors import CheckpointError
from videollm.models.published import blip2
from videollm.models.published.blip2 import Blip2QFormer, load_blip2, negative_weights
from videollm.models.published.video_llama import VideoLlamaQFormer, load_video_llama
from videollm.models.qformer import QFormerConfig

TINY = QFormerConfig(queries=5, width=32, layers=4, heads=4, ffn_width=64, encoder_width=48)
Arrays = dict[str, torch.Tensor]
Texts = tuple[torch.Tensor, torch.Tensor]  # ids, mask


def assert_same(ours: torch.Tensor, official: torch.Tensor) -> None:
    torch.testing.assert_close(ours, official, atol=2e-6, rtol=0)


def tiny_blip2() -> Blip2QFormer:
    return Blip2QFormer(replace(TINY, vocab_size=41, max_positions=32), embed_dim=16, bos_id=40).eval()


def tiny_video_llama() -> VideoLlamaQFormer:
    video = replace(TINY, queries=6, layers=2, encoder_width=32, cross_attention_every=1)
    return VideoLlamaQFormer(20, TINY, video, max_frames=8).eval()


@pytest.fixture(scope="module")
def official() -> dict[str, Arrays]:
    return load_parity("BLIP2_QFormer/blip2_stage1")


@pytest.fixture
def model(official: dict[str, Arrays]) -> Blip2QFormer:
    model = tiny_blip2()
    load_blip2(model, official["state"])
    return model


@pytest.fixture
def texts(official: dict[str, Arrays]) -> Texts:
    return official["input"]["input_ids"], official["input"]["attention_mask"].bool()


@torch.inference_mode()
def test_blip2_images_and_texts_alone(model: Blip2QFormer, official: dict[str, Arrays], texts: Texts):
    inter = official["inter"]
    hidden, cache = model.encode_images(model.vision_norm(official["input"]["image_tokens"]))
    assert_same(hidden, inter["query_last_hidden"])
    assert_same(hidden, official["output"]["forward_image_hidden"])
    for i, (key, value) in enumerate(cache):
        assert_same(key, inter[f"query_past_kv_{i}_k"])
        assert_same(value, inter[f"query_past_kv_{i}_v"])
    assert_same(model.qformer(ids=texts[0], text_mask=texts[1])[0], inter["text_last_hidden"])

    images, embeds = model.embed_images(hidden), model.embed_texts(*texts)
    assert_same(images, inter["image_feats"])
    assert_same(embeds, inter["text_feat"])
    similarity = model.similarity(images, embeds)
    pair = torch.eye(len(embeds), dtype=torch.bool)
    # Compared as cosines: the division by 0.07 makes 14 times the rounding error of both.
    assert_same((similarity * model.temperature)[~pair], (inter["sim_i2t"] * model.temperature)[~pair])
    assert_same((similarity.T * model.temperature)[~pair], (inter["sim_t2i"] * model.temperature)[~pair])
    assert_same(negative_weights(similarity, pair), inter["weights_i2t"])
    assert_same(negative_weights(similarity.T, pair), inter["weights_t2i"])


@torch.inference_mode()
def test_blip2_images_and_texts_together(model: Blip2QFormer, official: dict[str, Arrays], texts: Texts):
    inter, output = official["inter"], official["output"]
    states = model.vision_norm(official["input"]["image_tokens"])
    triples = torch.cat((states, states[inter["itm_neg_image_idx"]], states))
    ids, mask = inter["text_ids_all"], inter["text_atts_all"].bool()
    assert_same(model.qformer(triples, ids=ids, text_mask=mask)[0], inter["itm_last_hidden"])
    assert_same(model.match(triples, ids, mask), inter["logits"])
    _, cache = model.encode_images(states)
    assert_same(model.predict_words(*texts, cache), inter["lm_logits"])

    # The recorded calls of compute_itm were given the tokens as they are, without ln_vision.
    tokens = official["input"]["image_tokens"]
    assert_same(model.match(tokens, *texts)[:, 1], output["compute_itm_pairs"])
    assert_same(model.match_matrix(tokens, *texts), output["compute_itm_matrix_i2t"])


def recorded_negatives(inter: Arrays, prefix: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    return inter[f"{prefix}itm_neg_image_idx"], inter[f"{prefix}itm_neg_text_idx"]


def test_blip2_losses_and_gradients(model: Blip2QFormer, official: dict[str, Arrays], texts: Texts):
    output = official["output"]
    losses = model(official["input"]["image_tokens"], *texts, negatives=recorded_negatives(official["inter"]))
    for loss, name in zip(
        (*losses, torch.stack(losses).sum()), ("loss_itc", "loss_itm", "loss_lm", "loss"), strict=True
    ):
        assert_same(loss, output[name])

    torch.stack(losses).sum().backward()
    names = blip2.official_names(model)
    norms = {names[n]: p.grad.norm() for n, p in model.named_parameters(remove_duplicate=False) if p.grad is not None}
    norms["Qformer.cls.predictions.bias"] = norms["Qformer.cls.predictions.decoder.bias"]
    for name, norm in official["gradnorm"].items():
        torch.testing.assert_close(norms[name], norm, rtol=1e-4, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_blip2_losses_where_pairs_share_an_image(model: Blip2QFormer, official: dict[str, Arrays], texts: Texts):
    inputs, prefix = official["input"], "with_image_id/"
    negatives = recorded_negatives(official["inter"], prefix)
    losses = model(inputs["image_tokens"], *texts, image_ids=inputs["image_id"], negatives=negatives)
    for loss, name in zip(
        (*losses, torch.stack(losses).sum()), ("loss_itc", "loss_itm", "loss_lm", "loss"), strict=True
    ):
        assert_same(loss, official["output"][prefix + name])


def test_blip2_samples_negatives_that_do_not_fit():
    torch.manual_seed(0)
    model, ids = tiny_blip2(), torch.randint(3, 40, (4, 6))
    fits = torch.tensor([0, 0, 1, 2])[:, None] == torch.tensor([0, 0, 1, 2])
    for _ in range(20):
        drawn = blip2.sample_negatives(torch.randn(4, 4), fits)
        assert not fits[torch.arange(4), drawn].any()
    losses = model(torch.randn(4, 7, 48), ids, torch.ones_like(ids, dtype=torch.bool))
    assert all(loss.isfinite() for loss in losses)


def test_blip2_padding_and_later_words_are_not_seen():
    torch.manual_seed(0)
    model, states = tiny_blip2(), torch.randn(2, 7, 48)
    ids = torch.randint(3, 40, (2, 6))
    mask = torch.ones_like(ids, dtype=torch.bool)
    padded, padded_mask = F.pad(ids, (0, 3), value=9), F.pad(mask, (0, 3))
    _, cache = model.encode_images(states)
    torch.testing.assert_close(model.embed_texts(padded, padded_mask), model.embed_texts(ids, mask))
    torch.testing.assert_close(model.match(states, padded, padded_mask), model.match(states, ids, mask))
    words = model.predict_words(ids, mask, cache)
    torch.testing.assert_close(model.predict_words(ids[:, :3], mask[:, :3], cache), words[:, :3])


@torch.inference_mode()
def test_video_llama():
    data = load_parity("VideoLLaMA_QFormer/video_qformer")
    state, inter, output = data["state"], data["inter"], data["output"]
    model = tiny_video_llama()
    load_video_llama(model, state)
    video = data["input"]["video_bcthw"]
    frames = F.conv2d(
        video.transpose(1, 2).flatten(0, 1), state["visual_encoder.c.weight"], state["visual_encoder.c.bias"], stride=4
    )
    tokens = frames.flatten(2).mT.unflatten(0, (len(video), -1))  # (B,T,N,D)
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
    assert_same(model.norm(tokens).flatten(0, 1), inter["image_embeds"])
    assert_same(model.frame_qformer(inter["image_embeds"])[0], inter["q_hidden_state"])
    hidden = model.frame_hidden(tokens, mask)
    assert_same(hidden.flatten(1, 2), inter["frame_hidden_state"])
    assert_same(model.video_hidden(hidden, mask), inter["video_hidden"])
    assert_same(model(tokens, torch.zeros(mask.shape), mask), output["inputs_llama"])


@pytest.mark.parametrize(
    ("make", "load", "case"),
    [
        (tiny_blip2, load_blip2, "BLIP2_QFormer/blip2_stage1"),
        (tiny_video_llama, load_video_llama, "VideoLLaMA_QFormer/video_qformer"),
    ],
)
def test_every_official_key_is_accounted_for(make, load, case: str):
    state = load_parity(case)["state"]
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    missing = "Qformer.bert.encoder.layer.2.output_query.dense.bias"
    wrong = "Qformer.bert.encoder.layer.1.attention.self.key.weight"
    renamed = {(f"{name}.old" if name == missing else name): value for name, value in state.items()}
    renamed[wrong] = torch.zeros(32, 31)
    with pytest.raises(CheckpointError) as error:
        load(model, renamed)
    assert f"missing: {missing};" in str(error.value)
    assert f"unknown: {missing}.old;" in str(error.value)
    assert f"of another shape: {wrong} (32, 31) where this model has (32, 32)" in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_blip2_ties_words_and_decoder(official: dict[str, Arrays]):
    decoder = "Qformer.cls.predictions.decoder.weight"
    with pytest.raises(CheckpointError, match="one matrix for both"):
        load_blip2(tiny_blip2(), official["state"] | {decoder: official["state"][decoder] + 1})
