"""Published text-video retrieval systems, built from their own weights: a thin adapter over this package's heads.

What is not in the weights (numbers of attention heads, a fixed temperature) comes from `config`, where it says, or is
the published setting.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from torch import nn

from videollm.encoders.base import TextFeatures
from videollm.errors import CheckpointError, ConfigError
from videollm.models.published.key_mapping import bert_name, load_official
from videollm.retrieval.clip import TextConfig, VisionConfig
from videollm.retrieval.head import VideoRepr
from videollm.retrieval.heads.videoclip import BertConfig, VideoCLIP
from videollm.retrieval.model import HeadConfig, RetrievalConfig, RetrievalModel, save

State = Mapping[str, torch.Tensor]
Inputs = Mapping[str, torch.Tensor]


class OfficialModel(nn.Module):
    """A published system under its own names for inputs. `model` is the model itself."""

    def __init__(self, model: RetrievalModel, system: "System"):
        super().__init__()
        self.model = model
        self.system = system

    def similarity(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,Nv) as the official evaluation has it: CLIP4Clip, X-CLIP and TeachCLIP multiply by exp(logit_scale), the
        others do not scale."""
        text, video = self.text_features(inputs), self.video_repr(inputs)
        if self.system.scaled:
            return self.model.logits(text, video)
        return self.model.head.score(text, video)

    def logits(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,Nv) as the training loss takes them."""
        return self.model.logits(self.text_features(inputs), self.video_repr(inputs))

    def encode_text(self, inputs: Inputs) -> torch.Tensor:
        """(Nt,E), not normalised."""
        return self.text_features(inputs).embed

    def encode_video(self, inputs: Inputs) -> torch.Tensor:
        """(Nv,E), before the last normalisation; (Nv,T,E) for heads that compare frames."""
        video = self.video_repr(inputs)
        return video.embed if self.model.head.indexable else video.frames

    def text_features(self, inputs: Inputs) -> TextFeatures:
        return self.system.texts(self.model, inputs)

    def video_repr(self, inputs: Inputs) -> VideoRepr:
        return self.system.videos(self.model, inputs)

    def official_names(self) -> dict[str, str | tuple[str, ...]]:
        """Each name in `model.state_dict()` -> its official name, or names of equal parts of its rows."""
        return {name: self.system.official_name(name) for name in self.model.state_dict()}


@dataclass(frozen=True, kw_only=True)
class System:
    """How one family of published code names and arranges what a RetrievalModel holds.

    rename: our name -> official name, in which "{qkv}" stands for three names, one a third of the rows. ignored:
    patterns of official names that we have no use for. scaled: whether the evaluation scales. prefix: of some official
    files, not part of a name. transposed: official names of matrices that we hold the other way round.
    """

    configure: Callable[[str, "Shapes", Mapping[str, Any]], RetrievalConfig]
    rename: Callable[[str], str]
    texts: Callable[[RetrievalModel, Inputs], TextFeatures]
    videos: Callable[[RetrievalModel, Inputs], VideoRepr]
    ignored: tuple[str, ...] = ()
    scaled: bool = False
    prefix: str = "module."
    transposed: tuple[str, ...] = ()

    def official_name(self, name: str) -> str | tuple[str, ...]:
        name = self.rename(name)
        return tuple(name.replace("{qkv}", part) for part in "qkv") if "{qkv}" in name else name

    def clean(self, state: State) -> dict[str, torch.Tensor]:
        renamed = {n.removeprefix(self.prefix).replace("timesFPN_", "STAN_"): v for n, v in state.items()}
        return {n: v.mT if n in self.transposed else v for n, v in renamed.items()}


class Shapes:
    """Shapes of a state dict; what is missing is an error that names it."""

    def __init__(self, state: State):
        self.state = state

    def __getitem__(self, name: str) -> torch.Size:
        if name not in self.state:
            raise CheckpointError(f"the weights do not fit the system: missing: {name}")
        return self.state[name].shape

    def has(self, *starts: str) -> bool:
        return any(name.startswith(starts) for name in self.state)

    def count(self, prefix: str) -> int:
        """How many entries, 0, 1, ..., are named `prefix`.N."""
        found = {int(m[1]) for n in self.state if (m := re.match(re.escape(prefix) + r"\.(\d+)\.", n))}
        if not found:
            raise CheckpointError(f"the weights do not fit the system: missing: {prefix}.0 and everything in it")
        return max(found) + 1


def load(system: str, state: State, config: Mapping[str, Any]) -> OfficialModel:
    """Build a published system from its state dict, in evaluation mode and float32.

    system: a family, "CLIP4Clip", "X-CLIP", "TeachCLIP", "STAN", "VideoCLIP" or "ViCLIP", and a variant after a slash,
    which matters for "STAN/mugstan" only: others are told by their weights. config: what the official code was run
    with, for example {"sim_header": "seqTransf"}; may be empty.
    Raises ConfigError for an unknown system, CheckpointError that lists weights which are missing, unknown or of
    another shape.
    """
    family, _, variant = system.partition("/")
    if family not in SYSTEMS:
        raise ConfigError(f"there is no system {family!r}: choose from {', '.join(SYSTEMS)}")
    found = SYSTEMS[family]
    state = found.clean(state)
    model = RetrievalModel(found.configure(variant, Shapes(state), config)).eval()
    official = OfficialModel(model, found)
    load_official(model, state, official.official_names(), found.ignored)
    return official.eval()


_TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # of torch.save's archives and, before 1.6, its pickles


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a published checkpoint file: safetensors, or a pickle of tensors alone, at its top or under
    "model" or "state_dict"."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with path.open("rb") as file:
        if not file.read(4).startswith(_TORCH_MAGIC):
            raise CheckpointError(f"{path} is not a file of torch.save or safetensors: give a published checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, LookupError, RuntimeError, UnpicklingError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint of tensors: {reason}. Files that hold other Python objects are not "
            "opened: save their state dict alone, with torch.save or as safetensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no state dict: expected tensors by name, at the top or under 'model'")
    return dict(content)


def convert(path: Path, system: str, folder: Path) -> dict[str, Any]:
    """Write a published checkpoint file as a directory for `videollm.retrieval.model.load`. Returns what was made."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: give a published checkpoint")
    model = load(system, read(path), {}).model
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made = {
        "out": str(folder),
        "system": system,
        "head": model.config.head.kind,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": digest,
    }
    save(model, folder, _CARD.format(file=path.name, **made))
    return made


_CARD = """# {system}

Converted from `{file}` (sha256 {sha256}), {parameters} parameters, head `{head}`. Data, recipe, results and licence are
those of the published checkpoint. What its weights do not hold (numbers of attention heads, a fixed temperature) is the
published setting; see `config.json`.
"""


def _rename(patterns: tuple[tuple[str, str], ...], name: str) -> str:
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def _heads(config: Mapping[str, Any], tower: str, width: int) -> int:
    """Attention heads of a tower: what `config` says, else one for each 64 of its width, as all of CLIP's have."""
    nested = config.get(tower)
    stated = config.get(f"{tower}_heads") or (
        nested.get("heads") if isinstance(nested, Mapping) else config.get("heads")
    )
    return stated or max(1, width // 64)


def _vision(shapes: Shapes, prefix: str, conv: str, config: Mapping[str, Any], **kind: Any) -> VisionConfig:
    """Sizes of a tower with OpenAI's names under `prefix`."""
    kernel, places = shapes[f"{prefix}{conv}.weight"], shapes[f"{prefix}positional_embedding"][0]
    blocks = f"{prefix}transformer.resblocks"
    return VisionConfig(
        width=kernel[0],
        layers=shapes.count(blocks),
        heads=_heads(config, "vision", kernel[0]),
        mlp_width=shapes[f"{blocks}.0.mlp.c_fc.weight"][0],
        patch=kernel[-1],
        grid=round((places - 1) ** 0.5),
        embed_dim=shapes[f"{prefix}proj"][1],
        **kind,
    )


def _text(shapes: Shapes, prefix: str, config: Mapping[str, Any]) -> TextConfig:
    vocab_size, width = shapes[f"{prefix}token_embedding.weight"]
    blocks = f"{prefix}transformer.resblocks"
    return TextConfig(
        width=width,
        layers=shapes.count(blocks),
        heads=_heads(config, "text", width),
        mlp_width=shapes[f"{blocks}.0.mlp.c_fc.weight"][0],
        context=shapes[f"{prefix}positional_embedding"][0],
        vocab_size=vocab_size,
        embed_dim=shapes[f"{prefix}text_projection"][1],
    )


def _eot_mask(ids: torch.Tensor) -> torch.Tensor:
    """True up to the last token, the one with the highest id."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(1, keepdim=True)


def _frames_first(video: torch.Tensor) -> torch.Tensor:
    """(B,T,3,H,W) from that or from (B,3,T,H,W)."""
    return video if video.shape[2] == 3 else video.transpose(1, 2)


# CLIP4Clip, X-CLIP and TeachCLIP: one code base and its two forks.

_CLIP_NAMES = (
    (r"^logit_scale$", "clip.logit_scale"),
    (r"^visual\.", "clip.visual."),
    (r"^text\.", "clip."),
    (r"^head\.(temporal\.)?positions$", "frame_position_embeddings.weight"),
    (r"^head\.(temporal\.)?transformer\.", "transformerClip."),
    (r"^head\.(temporal\.)?lstm\.", "lstm_visual."),
    (r"^head\.pair_positions$", "cross.embeddings.position_embeddings.weight"),
    (r"^head\.pair_transformer\.", "cross.transformer."),
    (r"^head\.(ln_pool|dense)\.", r"cross.pooler.\1."),
    (r"^head\.output\.", "similarity_dense."),
    (r"^head\.hidden\.", "frameLinear."),
    (r"^head\.weight\.", "frameLinear2."),
    (r"^head\.video_sentence$", "global_mat_weight"),
    (r"^head\.video_word$", "word_logit_weight"),
    (r"^head\.sentence_frame$", "frame_logit_weight"),
    (r"^head\.frame_word$", "local_mat_weight"),
    (r"^head\.words_first$", "word_mat_weight"),
    (r"^head\.then_frames$", "frame_mat_weight2"),
    (r"^head\.frames_first$", "frame_mat_weight"),
    (r"^head\.then_words$", "word_mat_weight2"),
)
_CLIP_UNUSED = (
    r"clip\.(input_resolution|context_length|vocab_size)",
    r"clip\.logit_scale",  # tightTransf
    r"clip\.visual\.conv1\.weight",  # beside the 3D patches
    r"frame_position_embeddings\.weight",  # seqLSTM
)
_TEMPORAL = {"meanP": "mean", "seqLSTM": "lstm", "seqTransf": "transformer"}


def _configure_clip(_: str, shapes: Shapes, config: Mapping[str, Any]) -> RetrievalConfig:
    patches = ("3d", "conv2") if shapes.has("clip.visual.conv2.") else ("2d", "conv1")
    vision = _vision(shapes, "clip.visual.", patches[1], config, patches=patches[0], official_compat=True)
    text = _text(shapes, "clip.", config)
    header = config.get("sim_header") or _sim_header(shapes)
    if header not in (*_TEMPORAL, "tightTransf"):
        raise ConfigError(f"there is no sim_header {header!r}: choose from {', '.join(_TEMPORAL)}, tightTransf")
    sizes: dict[str, Any] = {"official_compat": True}
    prefix = {"seqTransf": "transformerClip.resblocks", "tightTransf": "cross.transformer.resblocks"}.get(header)
    if prefix:
        positions = "cross.embeddings.position_embeddings" if header == "tightTransf" else "frame_position_embeddings"
        sizes |= {
            "layers": shapes.count(prefix),
            "heads": vision.embed_dim // 64 if header == "tightTransf" else text.heads,
            "mlp_width": shapes[f"{prefix}.0.mlp.c_fc.weight"][0],
            "context": shapes[f"{positions}.weight"][0],
        }
    temporal = _TEMPORAL.get(header, "mean")
    if shapes.has("global_mat_weight", "local_mat_weight", "word_", "frame_logit", "frame_mat"):
        sizes |= {"max_words": shapes["word_logit_weight"][0], "max_frames": shapes["frame_logit_weight"][0]}
        head = HeadConfig(kind="xclip", temporal=temporal, **sizes)
    elif shapes.has("frameLinear"):
        head = HeadConfig(kind="attentive", temporal=temporal, **sizes)
    else:
        head = HeadConfig(kind="tight" if header == "tightTransf" else temporal, **sizes)
    return RetrievalConfig(vision=vision, text=text, head=head, scale="none" if head.kind == "tight" else "learned")


def _sim_header(shapes: Shapes) -> str:
    if shapes.has("cross.", "similarity_dense."):
        return "tightTransf"
    if shapes.has("lstm_visual."):
        return "seqLSTM"
    return "seqTransf" if shapes.has("transformerClip.", "frame_position_embeddings.") else "meanP"


def _clip_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    ids = inputs["input_ids"].flatten(0, -2)
    mask = inputs["attention_mask"].flatten(0, -2).bool() if "attention_mask" in inputs else _eot_mask(ids)
    return model.encode_text(ids, mask)


def _clip_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    """video (b,pair,frames,ts,3,H,W), video_mask (b,pair,frames)."""
    video = inputs["video"].flatten(0, 1).flatten(1, 2)
    return model.encode_video(video.float(), inputs["video_mask"].flatten(0, -2).bool())


_CLIP = System(
    configure=_configure_clip,
    rename=partial(_rename, _CLIP_NAMES),
    texts=_clip_texts,
    videos=_clip_videos,
    ignored=_CLIP_UNUSED,
    scaled=True,
)

# STAN and Mug-STAN: towers with the names of transformers' CLIPModel.

_STAN_NAMES = (
    (r"^head\.(stan\.)?(class_embedding|ln_post|proj)", r"visual.\2"),
    (r"^head\.(stan\.)?positions$", "visual.positional_embedding"),
    (r"^head\.(stan\.)?time_embedding\.", "backbone.STAN_time_embed."),
    (r"^head\.(stan\.)?across\.", "backbone.STAN_T_layers."),
    (r"^head\.(stan\.)?within\.(\d+)\.block\.", r"backbone.STAN_S_layers.\2."),
    (r"(STAN_T_layers\.\d+)\.norm\.", r"\1.layer_norm1."),
    (r"(STAN_T_layers\.\d+)\.fc\.", r"\1.temporal_fc."),
    (r"(STAN_T_layers\.\d+)\.conv\.", r"\1.layers."),
    (r"^visual\.transformer\.resblocks\.", "backbone.layers."),
    (r"^visual\.class_embedding$", "backbone.class_embedding"),
    (r"^visual\.positional_embedding$", "backbone.position_embedding.weight"),
    (r"^visual\.conv1\.", "backbone.patch_embedding."),
    (r"^visual\.ln_pre\.", "backbone.pre_layrnorm."),
    (r"^visual\.ln_post\.", "backbone.post_layernorm."),
    (r"^visual\.proj$", "backbone.visual_projection.weight"),
    (r"^text\.transformer\.resblocks\.", "text_backbone.text_model.encoder.layers."),
    (r"^text\.token_embedding\.", "text_backbone.text_model.embeddings.token_embedding."),
    (r"^text\.positional_embedding$", "text_backbone.text_model.embeddings.position_embedding.weight"),
    (r"^text\.ln_final\.", "text_backbone.text_model.final_layer_norm."),
    (r"^text\.text_projection$", "text_backbone.text_projection.weight"),
    (r"\.attn\.in_proj_", ".self_attn.{qkv}_proj."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_(1|2)\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_STAN_TRANSPOSED = ("backbone.visual_projection.weight", "text_backbone.text_projection.weight")
_STAN_TAU = {32: 0.01, 16: 0.02, 14: 0.01}  # by patch size; the DiDeMo runs used 0.05


def _configure_stan(variant: str, shapes: Shapes, config: Mapping[str, Any]) -> RetrievalConfig:
    kernel, places = shapes["backbone.patch_embedding.weight"], shapes["backbone.position_embedding.weight"][0]
    texts = "text_backbone.text_model."
    vocab_size, text_width = shapes[f"{texts}embeddings.token_embedding.weight"]
    conv = shapes.has("backbone.STAN_T_layers.0.layers.") or config.get("time_module") == "conv"
    mug = config.get("return_mean") is False or "mug" in variant.lower()
    heads = _heads(config, "vision", kernel[0])
    return RetrievalConfig(
        vision=VisionConfig(
            width=kernel[0],
            layers=shapes.count("backbone.layers"),
            heads=heads,
            mlp_width=shapes["backbone.layers.0.mlp.fc1.weight"][0],
            patch=kernel[-1],
            grid=round((places - 1) ** 0.5),
            embed_dim=shapes["backbone.visual_projection.weight"][1],
        ),
        text=TextConfig(
            width=text_width,
            layers=shapes.count(f"{texts}encoder.layers"),
            heads=_heads(config, "text", text_width),
            mlp_width=shapes[f"{texts}encoder.layers.0.mlp.fc1.weight"][0],
            context=shapes[f"{texts}embeddings.position_embedding.weight"][0],
            vocab_size=vocab_size,
            embed_dim=shapes["text_backbone.text_projection.weight"][1],
        ),
        head=HeadConfig(
            kind="mug" if mug else "stan",
            depth=shapes.count("backbone.STAN_T_layers"),
            across="conv3d" if conv else "attention",
            official_compat=True,
        ),
        scale="fixed",
        temperature=config.get("tau") or _STAN_TAU.get(kernel[-1], 0.01),
    )


def _stan_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    ids = inputs["text"].flatten(0, -2)
    return model.encode_text(ids, ids != 0)  # the official mask, though id 0 is also the word "!"


def _stan_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    video = _frames_first(inputs["imgs"].float())
    return model.encode_video(video, torch.ones(video.shape[:2], dtype=torch.bool, device=video.device))


_STAN = System(
    configure=_configure_stan,
    rename=partial(_rename, _STAN_NAMES),
    texts=_stan_texts,
    videos=_stan_videos,
    ignored=(r".*\.position_ids", r"data_preprocessor\..*"),
    transposed=_STAN_TRANSPOSED,
)


# VideoCLIP: two BERTs.


def _bert(shapes: Shapes, prefix: str, config: Mapping[str, Any]) -> BertConfig:
    vocab_size, width = shapes[f"{prefix}embeddings.word_embeddings.weight"]
    return BertConfig(
        width=width,
        layers=shapes.count(f"{prefix}encoder.layer"),
        heads=_heads(config, "bert", width),
        ffn_width=shapes[f"{prefix}encoder.layer.0.intermediate.dense.weight"][0],
        vocab_size=vocab_size,
        max_positions=shapes[f"{prefix}embeddings.position_embeddings.weight"][0],
    )


def _configure_videoclip(_: str, shapes: Shapes, config: Mapping[str, Any]) -> RetrievalConfig:
    return RetrievalConfig(
        vision=None,
        text=_bert(shapes, "text_encoder.", config),
        head=HeadConfig(
            kind="videoclip",
            bert=_bert(shapes, "video_encoder.bert.", config),
            feature_dim=shapes["video_encoder.videomlp.linear1.weight"][1],
            official_compat=True,
        ),
        scale="none",
    )


def _videoclip_name(name: str) -> str:
    tower, _, rest = name.partition(".")
    if tower == "head" and not rest.startswith("bert."):
        return "video_encoder.videomlp." + rest.replace("norm.", "LayerNorm.")
    official = bert_name(rest.removeprefix("bert.")).replace(
        "type_embedding.", "bert.embeddings.token_type_embeddings."
    )
    return f"video_encoder.{official}" if tower == "head" else f"text_encoder.{official.removeprefix('bert.')}"


def _videoclip_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    """caps (B,L) = [CLS] [SEP] words [SEP] padding: the first [SEP] belongs to the video."""
    ids, mask = (torch.cat((x[:, :1], x[:, 2:]), 1) for x in (inputs["caps"], inputs["cmasks"].bool()))
    return model.encode_text(ids, mask)


def _videoclip_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    mask = inputs["vmasks"].bool()
    frames = model.encode_frames(inputs["vfeats"].float(), mask)
    head = cast(VideoCLIP, model.head)
    if "caps" not in inputs:
        return head.encode_video(frames, mask)
    cls, sep = inputs["caps"][0, :2].tolist()
    return head.encode_video(frames, mask, (cls, sep))


_VIDEOCLIP = System(
    configure=_configure_videoclip,
    rename=_videoclip_name,
    texts=_videoclip_texts,
    videos=_videoclip_videos,
    ignored=(r".*\.position_ids", r".*pooler\.dense\.(weight|bias)"),
    prefix="mmmodel.",
)


# ViCLIP: OpenAI's names, one attention over space and time.


def _configure_viclip(_: str, shapes: Shapes, config: Mapping[str, Any]) -> RetrievalConfig:
    frames = shapes["vision_encoder.temporal_positional_embedding"][1]
    tubelet = shapes["vision_encoder.conv1.weight"][2]
    vision = _vision(shapes, "vision_encoder.", "conv1", config, patches="joint", frames=frames, tubelet=tubelet)
    return RetrievalConfig(
        vision=vision, text=_text(shapes, "text_encoder.", config), head=HeadConfig(kind="plain_mean"), scale="divisor"
    )


def _first(inputs: Inputs, names: tuple[str, ...]) -> torch.Tensor:
    found = next((inputs[name] for name in names if name in inputs), None)
    if found is None:
        raise ConfigError(f"the inputs are {', '.join(inputs)}; one of {', '.join(names)} is needed")
    return found


def _viclip_texts(model: RetrievalModel, inputs: Inputs) -> TextFeatures:
    ids = _first(inputs, ("text", "input_ids"))
    return model.encode_text(ids, _eot_mask(ids))


def _viclip_videos(model: RetrievalModel, inputs: Inputs) -> VideoRepr:
    video = _frames_first(_first(inputs, ("image", "video")).float())
    return model.encode_video(video, torch.ones(video.shape[:2], dtype=torch.bool, device=video.device))


_VICLIP = System(
    configure=_configure_viclip,
    rename=partial(
        _rename, ((r"^visual\.", "vision_encoder."), (r"^text\.", "text_encoder."), (r"^temperature$", "temp"))
    ),
    texts=_viclip_texts,
    videos=_viclip_videos,
)

SYSTEMS = {
    "CLIP4Clip": _CLIP,
    "X-CLIP": _CLIP,
    "TeachCLIP": _CLIP,
    "STAN": _STAN,
    "VideoCLIP": _VIDEOCLIP,
    "ViCLIP": _VICLIP,
    "InternVideo": _VICLIP,
}
