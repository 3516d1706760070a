"""Published retrieval systems give the numbers of their official code, from the official weights and inputs."""

import pytest
import torch

from tests.parity import load_parity, load_parity_config, with_unrecorded
from videollm.encoders.base import TextFeatures
from videollm.errors import CheckpointError, ConfigError
from videollm.retrieval.heads.stan import STAN
from videollm.retrieval.heads.teachclip import AttentiveAggregation
from videollm.retrieval.heads.videoclip import VideoCLIP
from videollm.retrieval.heads.xclip import XCLIP, sentence_frame_weights
from videollm.retrieval.losses import (
    Teaching,
    coarse_loss,
    fine_loss,
    symmetric_cross_entropy,
    teaching_loss,
    text_to_video_cross_entropy,
)
from videollm.retrieval.published import OfficialModel, load

Arrays = dict[str, torch.Tensor]
RECORDED_CLIP4CLIP = ("CLIP4Clip/meanP", "CLIP4Clip/tightTransf", "X-CLIP/seqTransf")
CLIP4CLIP = with_unrecorded(RECORDED_CLIP4CLIP, "CLIP4Clip/seqTransf")
STANS = ("STAN/stan", "STAN/stan_conv3d")
TEACHCLIP = with_unrecorded(["TeachCLIP/student"], "TeachCLIP/teacher_xclip")
SYSTEMS = (*CLIP4CLIP, *TEACHCLIP, *STANS, "VideoCLIP/mmfusion_separate")


def parity(system: str) -> tuple[dict[str, Arrays], dict]:
    return load_parity(system), load_parity_config(system)


def loaded(system: str) -> tuple[OfficialModel, dict[str, Arrays]]:
    arrays, config = parity(system)
    return load(system, arrays["state"], config), arrays


def assert_same(ours: torch.Tensor, official: torch.Tensor, scale: float = 1.0) -> None:
    """scale: by what both were multiplied, and their rounding errors with them."""
    torch.testing.assert_close(ours / scale, official / scale, atol=2e-6, rtol=0)


def assert_close_to_scale(ours: torch.Tensor, official: torch.Tensor) -> None:
    """Hidden states are not normalised: to 2e-6 of the largest, where that is above 1."""
    assert_same(ours, official, max(1.0, float(official.abs().max())))


def expected_similarity(system: str, output: Arrays) -> torch.Tensor:
    if system.startswith("STAN"):
        return output["sim_video_x_text"].mT
    if system.startswith("VideoCLIP"):
        return output["pooled_text"] @ output["pooled_video"].mT
    return output["sim_afa" if system == "TeachCLIP/student" else "sim_matrix"]


def pairs(inputs: Arrays, count: int = 4) -> Arrays:
    return {name: value[:count] for name, value in inputs.items()}


def check_gradients(model: OfficialModel, arrays: dict[str, Arrays]) -> None:
    """Norms, and where recorded the whole gradients, by official name. Those below 5e-7 are zero but for rounding: of
    biases of keys and of what a softmax reads."""
    found: Arrays = {}
    for name, parameter in model.model.named_parameters(remove_duplicate=False):
        if parameter.grad is None:
            continue
        official = model.official_names()[name]
        names = (official,) if isinstance(official, str) else official
        found |= dict(
            zip(names, parameter.grad.chunk(len(names)) if len(names) > 1 else (parameter.grad,), strict=True)
        )
    for name, norm in arrays["gradnorm"].items():
        torch.testing.assert_close(found[name].norm(), norm, rtol=1e-4, atol=5e-7, msg=lambda m, n=name: f"{n}: {m}")
    for name, gradient in arrays.get("grad", {}).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@torch.inference_mode()
@pytest.mark.parametrize("system", SYSTEMS)
def test_similarity(system: str):
    model, arrays = loaded(system)
    inputs = pairs(arrays["input"]) if system == "TeachCLIP/teacher_xclip" else arrays["input"]
    expected = expected_similarity(system, arrays["output"])
    if system.startswith("VideoCLIP"):  # sums of 32 products of numbers up to 3
        torch.testing.assert_close(model.similarity(inputs), expected, atol=1e-5, rtol=0)
    else:
        assert_same(model.similarity(inputs), expected, float(model.model.scale()) if model.system.scaled else 1.0)


@torch.inference_mode()
@pytest.mark.parametrize("system", [*CLIP4CLIP, "TeachCLIP/student"])
def test_clip_towers(system: str):
    model, arrays = loaded(system)
    inputs, output = arrays["input"], arrays["output"]
    assert_close_to_scale(model.encode_text(inputs), output["sequence_output"][:, 0])
    video = inputs["video"].flatten(0, 1).flatten(1, 2)
    assert_close_to_scale(
        model.model.encode_frames(video, inputs["video_mask"][:, 0].bool()).embed, output["visual_output"]
    )
    if "seq_features" in output:
        assert_close_to_scale(model.text_features(inputs).tokens, output["seq_features"])


@torch.inference_mode()
def test_x_clip_grains():
    model, arrays = loaded("X-CLIP/seqTransf")
    inter, scale, head = arrays["inter"], float(model.model.scale()), model.model.head
    assert isinstance(head, XCLIP)
    text, video = model.text_features(arrays["input"]), model.video_repr(arrays["input"])
    assert_same(video.embed, inter["video_output"])
    assert_same(video.frames, inter["frame_features"])
    seen = []
    head.score_block = lambda text, video: seen.append((text, head.grains(text, video))) or torch.zeros(5, 4)
    head.score(text, video)
    [(unit_text, grains)] = seen
    assert_same(unit_text.embed, inter["sentence_output"])
    assert_same(unit_text.tokens, inter["word_features"])
    names = ("video_sentence_logits", "video_word_logits", "sentence_frame_logits", "frame_word_logits")
    for ours, name in zip(grains, names, strict=True):
        assert_same(scale * ours, inter[name], scale)
    assert_same(grains[3], arrays["output"]["frame_word_aosm_unscaled"])
    by_frame, by_word = head.reduce_grid(unit_text.tokens, video.frames, None, None)
    assert_same(by_frame, inter["word_level_logit"])
    assert_same(by_word.mT, inter["frame_level_logit"])


@torch.inference_mode()
def test_teachclip_frames():
    model, arrays = loaded("TeachCLIP/student")
    inputs, inter, output, head = arrays["input"], arrays["inter"], arrays["output"], model.model.head
    assert isinstance(head, AttentiveAggregation)
    frames = model.model.encode_frames(inputs["video"].flatten(0, 1).flatten(1, 2), inputs["video_mask"][:, 0].bool())
    mask = inputs["video_mask"][:, 0].bool()
    assert_same(head.frame_logits(head.temporal.mix(frames.embed, mask), mask), inter["Frameweight"][..., 0])
    assert_same(head.frame_weights(frames, mask), output["frameweight_softmax_T1"][..., 0])
    assert_same(model.encode_video(inputs), output["get_video_output"])
    mean = head.temporal.encode_video(frames, mask)
    scale = float(model.model.scale())
    assert_same(scale * head.temporal.score(model.text_features(inputs), mean), output["sim_meanpool"], scale)


@torch.inference_mode()
def test_teachclip_teacher_frames():
    data = load_parity("TeachCLIP/teacher_frames")
    sentence, frames = data["input"]["sentence"], data["input"]["frames"]
    text = TextFeatures(tokens=sentence[:, None], mask=torch.ones(len(sentence), 1, dtype=torch.bool), embed=sentence)
    assert_same(sentence_frame_weights(text, frames), data["output"]["sentence2frames_sim"])


@torch.inference_mode()
@pytest.mark.parametrize("system", STANS)
def test_stan_levels(system: str):
    model, arrays = loaded(system)
    imgs, inter, head, visual = arrays["input"]["imgs"], arrays["inter"], model.model.head, model.model.visual
    assert isinstance(head, STAN)
    assert visual is not None
    mask = torch.ones(imgs.shape[:2], dtype=torch.bool)
    hidden = visual(imgs, mask, visual.config.layers).tokens
    for i in range(visual.config.layers):
        assert_close_to_scale(hidden[:, :, i].flatten(0, 1), inter[f"clip_layer_{i}"])
    steps = iter(head.branch(hidden[:, :, -head.hidden_layers :], mask))
    for k in range(head.hidden_layers):
        for name in ("in", "after_T", "after_S"):
            cls, patches = next(steps)
            assert_close_to_scale(torch.cat((cls[:, None], patches.flatten(1, 2)), 1), inter[f"branch_{name}_{k}"])
    assert_same(model.encode_video(arrays["input"]), arrays["output"]["video_feature"])
    assert_same(model.encode_text(arrays["input"]), arrays["output"]["text_feature"])


@torch.inference_mode()
def test_videoclip_hidden_and_pooled():
    model, arrays = loaded("VideoCLIP/mmfusion_separate")
    inputs, inter, output, head = arrays["input"], arrays["inter"], arrays["output"], model.model.head
    assert isinstance(head, VideoCLIP)
    assert_close_to_scale(head.hidden(inputs["vfeats"], inputs["vmasks"], (1, 2))[0], inter["video_hidden"])
    assert_close_to_scale(model.text_features(inputs).tokens, inter["text_hidden"])
    assert_same(model.encode_video(inputs), output["pooled_video"])
    assert_same(model.encode_text(inputs), output["pooled_text"])
    logits = model.logits(inputs)
    assert_same(2 * symmetric_cross_entropy(logits), output["MMContraLoss"])
    assert_same(text_to_video_cross_entropy(logits), output["T2VContraLoss"])


@pytest.mark.parametrize("system", CLIP4CLIP)
def test_clip4clip_loss_and_gradients(system: str):
    model, arrays = loaded(system)
    loss = symmetric_cross_entropy(model.logits(pairs(arrays["input"])))
    torch.testing.assert_close(loss, arrays["output"]["train_loss_4x4"], rtol=1e-4, atol=0)
    loss.backward()
    check_gradients(model, arrays)


@pytest.mark.parametrize("system", STANS)
def test_stan_loss_and_gradients(system: str):
    model, arrays = loaded(system)
    loss = 2 * symmetric_cross_entropy(model.logits(arrays["input"]))
    torch.testing.assert_close(loss, arrays["output"]["NCE_loss"], rtol=1e-4, atol=0)
    loss.backward()
    check_gradients(model, arrays)


def test_teachclip_losses_and_gradients():
    losses = load_parity("TeachCLIP/losses")
    model, arrays = loaded("TeachCLIP/student")
    inputs, head = pairs(arrays["input"]), model.model.head
    assert isinstance(head, AttentiveAggregation)
    given = losses["input"]
    teachers = [given["teacher0_sim"], given["teacher1_sim"]]
    frame_teachers = [given["teacher0_sentence2frames"], given["teacher1_sentence2frames"]]
    for coarse, fine in (("pearson", "ce"), ("ce", "pearson"), ("l1", "l1")):
        key = f"{coarse}_{fine}".replace("pearson", "pear")
        sim, weights, output = given["student_sim"], given["student_frameweight"], losses["output"]
        parts = {
            "gt_loss": symmetric_cross_entropy(sim),
            "distill_loss": coarse_loss(sim, teachers, coarse),
            "fine_loss": fine_loss(weights, frame_teachers, fine),
            "loss": teaching_loss(sim, weights, teachers, frame_teachers, Teaching(coarse=coarse, fine=fine)),
        }
        for name, ours in parts.items():
            torch.testing.assert_close(ours, output[f"{key}/{name}"], rtol=1e-4, atol=1e-7)

    mask = inputs["video_mask"][:, 0].bool()
    frames = model.model.encode_frames(inputs["video"].flatten(0, 1).flatten(1, 2), mask)
    logits = model.model.logits(model.text_features(inputs), head.encode_video(frames, mask))
    assert_same(logits.detach(), given["student_sim"], float(model.model.logit_scale.detach().exp()))
    teaching_loss(logits, head.frame_weights(frames, mask), teachers, frame_teachers).backward()
    check_gradients(model, losses)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_official_key_is_accounted_for(system: str):
    arrays, config = parity(system)
    names = list(arrays["state"])
    unused: tuple[str, ...] = (
        ("position_ids",)
        if system.startswith("CLIP4Clip")
        else ("position_ids", "pooler.dense.weight", "pooler.dense.bias")
    )
    if system == "CLIP4Clip/tightTransf":
        unused += ("clip.logit_scale",)
    for name in names[:: len(names) // 12] + names[-8:]:
        value = arrays["state"][name]
        rest = {n: v for n, v in arrays["state"].items() if n != name}
        if name.endswith(unused):
            load(system, rest, config)
            continue
        with pytest.raises(CheckpointError) as error:
            load(system, rest, config)
        assert name in str(error.value)
        if value.ndim == 1 and name.endswith("bias"):
            with pytest.raises(CheckpointError, match="of another shape") as error:
                load(system, {**arrays["state"], name: torch.zeros(len(value) + 1)}, config)
            assert name in str(error.value)
    with pytest.raises(CheckpointError, match=r"unknown: something\.else"):
        load(system, {**arrays["state"], "something.else": torch.zeros(1)}, config)


@torch.inference_mode()
@pytest.mark.parametrize("system", SYSTEMS)
def test_weights_alone_say_which_head(system: str):
    arrays, config = parity(system)
    sizes = {n: v for n, v in config.items() if n in ("vision", "text", "heads")}
    inputs = pairs(arrays["input"])
    given = load(system, arrays["state"], config).similarity(inputs)
    assert torch.equal(load(system, arrays["state"], sizes).similarity(inputs), given)


def test_unknown_system_lists_the_known():
    with pytest.raises(ConfigError, match="no system 'TS2-Net': choose from CLIP4Clip, X-CLIP"):
        load("TS2-Net/any", {}, {})
