"""Video-LLaMA, end to end: EVA ViT, the two Q-Formers of the vision branch, the audio branch, LLaMA (Zhang et al.
2023; DAMO-NLP-SG Video-LLaMA `video_llama/models/video_llama.py`).

Shapes: B videos, T frames, P patches, D encoder width, Q query tokens, S sound clips, O width of ImageBind's space,
W Q-Former width, H language-model width.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from videollm.models.audio import AudioQFormer
from videollm.models.published.imagebind import build_imagebind
from videollm.models.published.imagebind import official_name as imagebind_name
from videollm.models.published.key_mapping import bert_name
from videollm.models.published.llama import IGNORED as LLAMA_IGNORED
from videollm.models.published.llama import (
    build_llama,
    caption_prompt,
    embed,
    greedy_ids,
    join,
    logits_of,
    next_token_loss,
)
from videollm.models.published.mel import MelConfig, clip_spectrograms
from videollm.models.published.pixels import eval_video
from videollm.models.published.qformer_systems import qformer_config
from videollm.models.published.system import (
    Config,
    OfficialName,
    PublishedSystem,
    State,
    StateShapes,
    Tensors,
    official_compat,
    setting,
)
from videollm.models.published.transformer import EvaViT, read_blocks
from videollm.models.published.video_llama import VideoLlamaQFormer, official_names
from videollm.video.rules import uniform_indices

DEMO_FRAMES = 8
DEMO_CLIPS = 8
PAD_ID = 0  # <unk>, which is LLaMA's padding here
SHOWN_LOGITS = 6  # how many last positions the recorded demo logits have


class VideoLlama(PublishedSystem):
    """Video-LLaMA with the audio branch where the checkpoint has one.

    config: {"vit": {"heads"}, "qformer": {"heads"}, "llama": {"heads", "rms_norm_eps"}} and, for the audio branch,
    "imagebind"; see `build_imagebind`. "mel_args", "waves_sec_rate_channels" and "demo_audio_kw" say how the recorded
    sounds are cut.
    """

    IGNORED = (
        LLAMA_IGNORED,
        r"(video_|audio_)?Qformer\.bert\.embeddings\.position_ids",  # 0, 1, 2, ...
    )

    def __init__(self, shapes: StateShapes, config: Config):
        super().__init__()
        self.config = config
        self.official_compat = official_compat(config)
        self.visual_encoder = _eva(shapes, setting(config, "vit"))
        width = shapes["llama_proj.weight"][0]
        heads = int(setting(config, "qformer", "heads"))
        frame = qformer_config(shapes, "Qformer", shapes["query_tokens"][1], heads, 2)
        video = qformer_config(shapes, "video_Qformer", shapes["video_query_tokens"][1], heads, 1)
        positions = shapes["video_frame_position_embedding.weight"][0]
        self.temporal = VideoLlamaQFormer(width, frame, video, max_frames=positions)
        self.audio: AudioQFormer | None = None
        if shapes.has("audio_Qformer."):
            self.imagebind = build_imagebind(shapes, "audio_encoder.", setting(config, "imagebind"))
            sound = qformer_config(shapes, "audio_Qformer", shapes["audio_query_tokens"][1], heads, 1)
            self.audio = AudioQFormer(sound, shapes["audio_position_embedding.weight"][0], width)
        self.llama = build_llama(shapes, "llama_model.", setting(config, "llama"))

    def official_names(self) -> dict[str, OfficialName]:
        names: dict[str, OfficialName] = {}
        temporal = official_names(self.temporal)
        for name in self.state_dict():
            part, inside = name.split(".", 1)
            if part == "temporal":
                names[name] = temporal[inside]
            elif part == "audio":
                names[name] = official_audio(inside)
            elif part == "imagebind":
                names[name] = f"audio_encoder.{imagebind_name(inside)}"
            else:
                names[name] = {"llama": "llama_model.", "visual_encoder": "visual_encoder."}[part] + inside
        return names

    def video_tokens(self, video: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B,3,T,H,W) to (B,Q,H); an image is a video of one frame."""
        batch, _, frames = video.shape[:3]
        tokens = self.frame_tokens(video)
        every = torch.ones(batch, frames, dtype=torch.bool, device=video.device)
        return self.temporal(tokens, every.float(), every)

    def frame_tokens(self, video: torch.Tensor) -> torch.Tensor:
        """(B,3,T,H,W) to (B,T,1+P,D), the class token first."""
        with torch.no_grad():  # the tower is frozen in every stage
            return self.visual_encoder(video.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(video), -1))

    def sound_tokens(self, mel: torch.Tensor) -> torch.Tensor:
        """Spectrograms of clips (B,S,1,M,F) to (B,Q,H)."""
        assert self.audio is not None
        return self.audio(self.imagebind.embed_sound(mel.flatten(0, 1)).unflatten(0, mel.shape[:2]))

    def frames_as_sound_tokens(self, video: torch.Tensor) -> torch.Tensor:
        """(B,3,T,H,W) to (B,Q,H). The audio branch is trained on frames instead of sound: ImageBind puts both in one
        space, but the frames' vectors have length 1 and the sounds' 20."""
        assert self.audio is not None
        pictures = video.transpose(1, 2)
        return self.audio(self.imagebind.embed_pictures(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2]))

    def audiovideo_tokens(self, video: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """(B,3,T,H,W) and one clip a frame (B,T,1,M,F) to (B,Q,H): the video Q-Former also reads a row for each clip,
        ImageBind's feature before its projection with the frame's position (`encode_videoQformer_audiovideo`)."""
        every = torch.ones(video.shape[0], video.shape[2], dtype=torch.bool, device=video.device)
        frames = self.temporal.frame_hidden(self.frame_tokens(video), every).flatten(1, 2)
        clips = self.imagebind.audio.feature(mel.flatten(0, 1)).unflatten(0, mel.shape[:2])
        clips = clips + self.temporal.frame_position.weight[: clips.shape[1]]
        hidden, _ = self.temporal.video_qformer(torch.cat((frames, clips), 1))
        return self.temporal.output(hidden)

    def replace_placeholders(self, ids: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings (B,L,H) of ids (B,L) with tokens (B,Q,H) at <ImageHere>, whose id lies beyond LLaMA's vocabulary.

        Raises ValueError where a row has another number of placeholders than Q.
        """
        places = ids >= self.llama.config.vocab_size
        if not bool((places.sum(1) == tokens.shape[1]).all()):
            raise ValueError(
                f"a conversation has {places.sum(1).tolist()} placeholders, one per row, for {tokens.shape[1]} tokens"
            )
        embeds = embed(self.llama, ids.masked_fill(places, 0))
        return embeds.masked_scatter(places[..., None], tokens.to(embeds.dtype))

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs = self._media(inputs)
        if self.audio is None:
            outputs |= self._losses(inputs, inputs["video_bcthw"], self.video_tokens)
            outputs |= self._demo(inputs)
        else:
            if "ib_frames_bcthw" in inputs:
                outputs |= self._losses(inputs, inputs["ib_frames_bcthw"], self.frames_as_sound_tokens)
            outputs |= self._sound_demo(inputs)
        return outputs

    def _media(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        video, mel, pictures = (inputs.get(name) for name in ("video_bcthw", "audio", "ib_frames_bcthw"))
        if self.audio is None and video is not None:
            outputs["inputs_llama"] = self.video_tokens(video)
            outputs["image_as_T1"] = self.video_tokens(video[:, :, :1])
        if mel is not None:
            outputs["audio_inputs_llama"] = self.sound_tokens(mel)
            clips = self.imagebind.embed_sound(mel.flatten(0, 1)).unflatten(0, mel.shape[:2])
            outputs["imagebind_audio_embedding"] = clips.mean(1)
            if video is not None and self.config.get("audiovideo"):
                outputs["audiovideo_inputs_llama"] = self.audiovideo_tokens(video, mel)
        if pictures is not None:
            outputs["vision_as_audio_inputs_llama"] = self.frames_as_sound_tokens(pictures)
            outputs["imagebind_vision_embedding"] = self.imagebind.embed_pictures(pictures[:, :, 0])
        for name, wave in inputs.items():
            if match := re.fullmatch(r"wave(\d+)_int16", name):
                outputs[f"mel{match[1]}"] = self._mel(wave, int(match[1]), self.config["mel_args"][int(match[1])])
        return outputs

    def _mel(self, wave: torch.Tensor, index: int, options: Mapping[str, Any]) -> torch.Tensor:
        rate = int(self.config["waves_sec_rate_channels"][index][1])
        return clip_spectrograms(
            wave.float() / 32768, rate, MelConfig(**options), official_compat=self.official_compat
        )[None]

    def _losses(self, inputs: Mapping[str, torch.Tensor], media: torch.Tensor, tokens: Any) -> Tensors:
        """Losses of captioning (stage 1; stage 2 with a prompt, on images) and of conversations."""
        outputs: Tensors = {}
        for name in inputs:
            stage, _, field = name.rpartition("/")
            if field == "caption_ids":
                around = None
                if f"{stage}/before_ids" in inputs:
                    around = (inputs[f"{stage}/before_ids"], inputs[f"{stage}/after_ids"])
                visual = tokens(media if around is None else media[:, :, :1])
                embeds, mask, labels = caption_prompt(
                    self.llama,
                    visual,
                    inputs[name],
                    inputs[f"{stage}/caption_mask"],
                    PAD_ID,
                    around,
                    official_compat=self.official_compat,
                )
            elif field == "input_ids":
                ids, labels = inputs[name], inputs[f"{stage}/labels"]
                mask = inputs.get(f"{stage}/attention_mask", (ids != PAD_ID).long())
                embeds = self.replace_placeholders(ids, tokens(media))
            else:
                continue
            outputs[f"{stage}/loss"] = next_token_loss(logits_of(self.llama, embeds, mask), labels)
        return outputs

    @torch.no_grad()
    def _demo(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        outputs: Tensors = {}
        for name in inputs:
            if not (match := re.fullmatch(r"(.*/turn\d+_)segment0_ids", name)):
                continue
            turn = match[1]
            visual = self.video_tokens(self.demo_pixels(inputs["demo_frames_thwc"]))
            embeds = join(self.llama, (inputs[name], inputs[f"{turn}segment1_ids"]), (visual,))
            outputs[f"{turn}inputs_embeds"] = embeds
            outputs[f"{turn}logits_last6"] = logits_of(self.llama, embeds)[:, -SHOWN_LOGITS:]
            outputs[f"{turn}greedy_ids"] = greedy_ids(self.llama, embeds, SHOWN_LOGITS)
        return outputs

    @torch.no_grad()
    def _sound_demo(self, inputs: Mapping[str, torch.Tensor]) -> Tensors:
        if "demo/segment0_ids" not in inputs:
            return {}
        options = {"clips_per_video": DEMO_CLIPS, **self.config.get("demo_audio_kw", {})}
        sound = self.sound_tokens(self._mel(inputs["wave0_int16"], 0, options))
        video = self.video_tokens(self.demo_pixels(inputs["demo_frames_thwc"]))
        texts = [inputs[f"demo/segment{i}_ids"] for i in range(3)]
        embeds = join(self.llama, texts, (sound, video))
        return {
            "demo/inputs_embeds": embeds,
            "demo/logits_last6": logits_of(self.llama, embeds)[:, -SHOWN_LOGITS:],
        }

    def demo_pixels(self, frames: torch.Tensor) -> torch.Tensor:
        """All frames of a video (F,H,W,3) uint8 to the eight that the demo looks at, normalised, (1,3,8,H,W)."""
        chosen = frames[uniform_indices(len(frames), DEMO_FRAMES)]
        return eval_video(chosen.permute(3, 0, 1, 2).float())[None]


def load_video_llama_system(state: State, config: Config) -> VideoLlama:
    """Build Video-LLaMA from its complete state dict: parts of the published files, see `import-official`."""
    system = VideoLlama(StateShapes(state), config).eval()
    system.load(state)
    trained = r"video_|llama_proj\." if system.audio is None else r"audio_(Qformer|query|llama_proj|position)"
    system.train_only(trained)
    return system


def official_audio(name: str) -> str:
    """The official name of a tensor of an `AudioQFormer`."""
    if name == "qformer.query_tokens":
        return "audio_query_tokens"
    part, inside = name.split(".", 1)
    if part == "qformer":
        return f"audio_Qformer.{bert_name(inside)}"
    return {"position": "audio_position_embedding.", "output": "audio_llama_proj."}[part] + inside


def _eva(shapes: StateShapes, config: Config) -> EvaViT:
    blocks, patch = read_blocks(
        shapes,
        "visual_encoder.blocks",
        "visual_encoder.patch_embed.proj.weight",
        heads=int(setting(config, "heads")),
        eps=float(config.get("ln_eps", 1e-6)),
        qkv_bias="query_value",
    )
    return EvaViT(blocks, patch, shapes["visual_encoder.pos_embed"][1] - 1)
