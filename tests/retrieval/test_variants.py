"""Variants of the published systems for which no official numbers are at hand: official weights of a sibling plus what
the variant adds, against a plain reading of the official algorithm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.retrieval.test_official import Arrays, assert_same, parity
from videollm.errors import ConfigError
from videollm.retrieval.published import OfficialModel, load


def frames_of(model: OfficialModel, inputs: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    mask = inputs["video_mask"][:, 0]
    return model.model.encode_frames(inputs["video"].flatten(0, 1).flatten(1, 2), mask.bool()).embed, mask


def loose_scores(model: OfficialModel, inputs: Arrays, mixed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """CLIP4Clip's loose similarity of frames (Nv,T,E)."""
    frames = F.normalize(mixed, dim=-1) * mask[..., None]
    video = F.normalize(frames.sum(1) / mask.sum(1, keepdim=True), dim=-1)
    return F.normalize(model.encode_text(inputs), dim=-1) @ video.mT


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["", "X-CLIP", "TeachCLIP"])
def test_seq_lstm(kind: str):
    """Alone, and under the heads of the two forks."""
    torch.manual_seed(0)
    arrays, config = parity("CLIP4Clip/meanP")
    lstm = nn.LSTM(128, 128, batch_first=True)
    state = arrays["state"] | {f"lstm_visual.{n}": v for n, v in lstm.state_dict().items()}
    state["frame_position_embeddings.weight"] = torch.randn(24, 128)  # there, though never read
    model = load("CLIP4Clip/seqLSTM", state, config | {"sim_header": "seqLSTM"})
    inputs = arrays["input"]
    frames, mask = frames_of(model, inputs)
    packed = pack_padded_sequence(frames, mask.sum(1), batch_first=True, enforce_sorted=False)
    out, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    expected = loose_scores(model, inputs, out + frames, mask)
    if not kind:
        assert_same(model.similarity(inputs) / model.model.scale(), expected)
        return
    folder = {"X-CLIP": "X-CLIP/seqTransf", "TeachCLIP": "TeachCLIP/student"}[kind]
    extra = {n: v for n, v in parity(folder)[0]["state"].items() if not n.startswith(("clip.", "frame_p", "transf"))}
    under = load(f"{kind}/seqLSTM", state | extra, {})
    temporal = under.model.head.temporal
    mixed = temporal.mix(frames, mask.bool())
    assert_same(loose_scores(model, inputs, mixed, mask), expected)


@torch.inference_mode()
def test_3d_patches():
    torch.manual_seed(0)
    arrays, config = parity("CLIP4Clip/meanP")
    flat = load("CLIP4Clip/meanP", arrays["state"], config)
    kernel = arrays["state"]["clip.visual.conv1.weight"]
    state = arrays["state"] | {"clip.visual.conv2.weight": F.pad(kernel[:, :, None], (0, 0, 0, 0, 1, 1))}
    deep = load("CLIP4Clip/meanP_3d", state, config | {"linear_patch": "3d"})
    inputs, scale = arrays["input"], float(flat.model.scale())
    assert_same(deep.similarity(inputs), flat.similarity(inputs), scale)

    state["clip.visual.conv2.weight"] = 0.1 * torch.randn(128, 3, 3, 8, 8)
    deep = load("CLIP4Clip/meanP_3d", state, config | {"linear_patch": "3d"})
    video = inputs["video"].flatten(0, 1).flatten(1, 2)
    padded = F.pad(video, (0, 0, 0, 0, 0, 0, 1, 1))
    windows = padded.unfold(1, 3, 1).permute(0, 1, 5, 2, 3, 4)  # (Nv,T,3 frames,3,H,W)
    flattened = windows.transpose(2, 3).flatten(0, 1).flatten(1, 2)
    patches = F.conv2d(flattened, state["clip.visual.conv2.weight"].flatten(1, 2), stride=8)
    flat.model.visual.conv1 = nn.Identity()
    flat.model.visual.patches = lambda *_: patches.flatten(2).mT.unflatten(0, video.shape[:2])
    torch.testing.assert_close(deep.similarity(inputs), flat.similarity(inputs), atol=2e-5, rtol=0)


def aosm(x: torch.Tensor, matrix: torch.Tensor, dim: int) -> torch.Tensor:
    """Σ x · (softmax(x / 0.01) · matrix) over one axis."""
    weight = torch.softmax(x / 0.01, dim).transpose(dim, -1) @ matrix
    return (x * weight.transpose(dim, -1)).sum(dim)


@torch.inference_mode()
def test_x_clip_on_mean_pooling():
    arrays, config = parity("X-CLIP/seqTransf")
    state = {n: v for n, v in arrays["state"].items() if not n.startswith(("transformerClip", "frame_position"))}
    model, inputs = load("X-CLIP/meanP", state, config | {"sim_header": "meanP"}), arrays["input"]
    frames, mask = frames_of(model, inputs)
    text = model.text_features(inputs)
    s, w, f = (F.normalize(x, dim=-1) for x in (text.embed, text.tokens, frames))
    v = F.normalize((f * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)
    grid = torch.einsum("ald,btd->albt", w @ state["local_mat_weight"], f)
    words_first = aosm(aosm(grid, state["word_mat_weight"], 1), state["frame_mat_weight2"], 2)
    frames_first = aosm(aosm(grid, state["frame_mat_weight"], 3), state["word_mat_weight2"], 1)
    total = (
        s @ state["global_mat_weight"] @ v.mT
        + aosm(torch.einsum("ald,bd->alb", w, v), state["word_logit_weight"], 1)
        + aosm(torch.einsum("ad,btd->abt", s, f), state["frame_logit_weight"], 2)
        + (words_first + frames_first) / 2
    )
    assert_same(model.similarity(inputs) / model.model.scale(), total / 4)


@torch.inference_mode()
@pytest.mark.parametrize("branch", ["stan", "stan_conv3d"])
def test_mug_stan(branch: str):
    arrays, config = parity(f"STAN/{branch}")
    config |= {"return_mean": False, "all_proj": True}
    model, inputs = load("STAN/mugstan", arrays["state"], config), arrays["input"]
    frames = model.encode_video(inputs)
    assert_same(frames.mean(1), arrays["output"]["video_feature"])
    assert_same(model.encode_text(inputs), arrays["output"]["text_feature"])
    words = arrays["output"]["text_tokens"] @ arrays["state"]["text_backbone.text_projection.weight"].mT
    assert_same(model.text_features(inputs).tokens, words)
    grid = torch.einsum("ald,btd->ablt", F.normalize(words, dim=-1), F.normalize(frames, dim=-1))
    grid = grid * (inputs["text"] != 0)[:, None, :, None]

    def soften(x: torch.Tensor, dim: int, masked: bool) -> torch.Tensor:
        sharp = x.masked_fill(x == 0, float("-inf")) if masked else x  # a zero is a padded word, as published
        return (x * torch.softmax(100 * sharp, dim)).sum(dim)

    by_word = soften(soften(grid, 3, False), 2, True)
    by_frame = soften(soften(grid, 2, True), 2, False)
    assert_same(model.similarity(inputs), (by_word + by_frame) / 2)
    assert float(model.model.scale()) == pytest.approx(1 / config["tau"])


class ViCLIPVision(nn.Module):
    """ViCLIP's visual tower read off its equations, with torch's own attention."""

    def __init__(self, state: Arrays, heads: int):
        super().__init__()
        self.state, self.heads = state, heads

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        state = self.state
        x = F.conv3d(image.transpose(1, 2), state["conv1.weight"], stride=state["conv1.weight"].shape[2:])
        x = x.flatten(3).permute(0, 2, 3, 1)
        x = x + state["positional_embedding"][1:] + state["temporal_positional_embedding"][0, :, None]
        cls = (state["class_embedding"] + state["positional_embedding"][0]).expand(len(x), 1, -1)
        x = self.norm("ln_pre", torch.cat((cls, x.transpose(1, 2).flatten(1, 2)), 1))
        for i in range(2):
            block = f"transformer.resblocks.{i}"
            attention = nn.MultiheadAttention(x.shape[-1], self.heads, batch_first=True).eval()
            prefix = f"{block}.attn."
            attention.load_state_dict({n[len(prefix) :]: v for n, v in state.items() if n.startswith(prefix)})
            y = self.norm(f"{block}.ln_1", x)
            x = x + attention(y, y, y, need_weights=False)[0]
            y = self.linear(f"{block}.mlp.c_fc", self.norm(f"{block}.ln_2", x))
            x = x + self.linear(f"{block}.mlp.c_proj", y * torch.sigmoid(1.702 * y))
        return self.norm("ln_post", x[:, 0]) @ state["proj"]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


@torch.inference_mode()
@pytest.mark.parametrize("tubelet", [1, 2])
def test_viclip(tubelet: int):
    torch.manual_seed(0)
    arrays, _ = parity("CLIP4Clip/meanP")
    clip = {n.removeprefix("clip."): v for n, v in arrays["state"].items() if n != "clip.logit_scale"}
    vision = {n.removeprefix("visual."): v for n, v in clip.items() if n.startswith("visual.")}
    vision["conv1.weight"] = vision["conv1.weight"][:, :, None].repeat(1, 1, tubelet, 1, 1)
    vision["temporal_positional_embedding"] = 0.3 * torch.randn(1, 4, 128)
    state = {f"vision_encoder.{n}": v for n, v in vision.items()}
    state |= {f"text_encoder.{n}": v for n, v in clip.items() if not n.startswith("visual.")}
    state["temp"] = torch.tensor(0.005)
    model = load("ViCLIP/tiny", state, {})
    image = torch.randn(3, 4 * tubelet, 3, 16, 16)
    inputs = {"image": image, "text": arrays["input"]["input_ids"][:, 0]}
    video, text = ViCLIPVision(vision, 2)(image), arrays["output"]["sequence_output"][:, 0]
    torch.testing.assert_close(model.encode_video(inputs), video, atol=1e-5, rtol=0)
    expected = F.normalize(text, dim=-1) @ F.normalize(video, dim=-1).mT
    assert_same(model.similarity(inputs), expected)
    channels_first = inputs | {"image": image.transpose(1, 2)}
    assert torch.equal(model.similarity(channels_first), model.similarity(inputs))
    assert_same(model.logits(inputs) / 100, expected)  # the divisor is at least 0.01
    with pytest.raises(ConfigError, match="the inputs are text; one of image, video is needed"):
        model.encode_video({"text": inputs["text"]})
