"""The embedded encoder, which places ImageNet class posteriors in the space of sentence embeddings.

EfficientNet-Lite0 gives a posterior over 1,000 classes for the whole frame and for four overlapping regions. Each
posterior weights a mean of the sentence embeddings of the classes' names and definitions, as ConSE does (Norouzi et al.
2014, https://arxiv.org/abs/1312.5650), so that a frame, a region and any text can be compared. The sentences are
MiniLM's, which are English, or multilingual E5's; the posteriors are the same. The encoder recognises what ImageNet-1k
has names for: things, animals, food and some scenes. It hardly recognises people, actions or written text.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from videollm import assets
from videollm.config import EncoderConfig
from videollm.cpu import openvino_networks
from videollm.device import resolve_dtype, upload
from videollm.encoders.base import FrameFeatures, TextFeatures, batch_size
from videollm.encoders.concepts import CLASSES, imagenet_concepts, membership
from videollm.encoders.efficientnet import EfficientNetLite0, load_efficientnet
from videollm.encoders.efficientnet_graph import feature_maps
from videollm.encoders.images import resize_crop
from videollm.encoders.sentences import E5, MINILM, SentenceEncoder, SentenceModel
from videollm.errors import ConfigError

NETWORK = "efficientnet_lite0"
WINDOWS = (slice(0, 4), slice(3, 7))  # rows or columns of the 7x7 map that a region covers
SENTENCES = {"": MINILM, E5.asset: E5}  # by `EncoderConfig.pretrained`


class LiteEncoder:
    """The FrameEncoder of the presets `lite` and `lite-multilingual`.

    The tokens are the whole frame, then its regions top left, top right, bottom left and bottom right, all as unit
    vectors in the sentence space. Weights that are not cached are fetched.

    Raises ConfigError if `config` names another network or sentence model, and AssetError if weights cannot be fetched.
    """

    name = "lite"
    image_size = 224
    tokens_per_frame = 1 + len(WINDOWS) ** 2
    token_dim = 384
    embed_dim = 384
    scale = 12.5  # found by scripts/fit_scale.py with MiniLM; E5 takes the same and was not fitted

    def __init__(self, config: EncoderConfig | None = None, device: torch.device | str | None = None):
        config = config or EncoderConfig()
        if config.name != NETWORK:
            raise ConfigError(f"the lite encoder is {NETWORK}, not {config.name!r}; use kind='open_clip' for others")
        if config.pretrained not in SENTENCES:
            raise ConfigError(
                f"the lite encoder has no sentence model {config.pretrained!r}; choose one of "
                f"{', '.join(map(repr, SENTENCES))}"
            )
        self._sentences = SENTENCES[config.pretrained]
        self.english_only = self._sentences.english_only
        self.device = torch.device(device or "cpu")
        self.dtype = resolve_dtype(config.dtype, self.device)
        concepts = imagenet_concepts()
        self.vocabulary = concepts.vocabulary
        self.revision = "-".join(
            (
                assets.ASSETS["efficientnet-lite0"].key[:6],
                assets.ASSETS[self._sentences.asset].key[:6],
                concepts.sha[:6],
            )
        )
        self._weights = assets.fetch("efficientnet-lite0") / "model.safetensors"
        text = load_file(_class_text(self._sentences) / "class_text.safetensors")
        self.class_text = text["class_text"].to(self.device)  # (1000,384)
        self.centre = text["centre"].to(self.device)  # (384,)
        self._membership = membership(self.vocabulary).to(self.device)

    # Weights are read when they are first used: a question about a video whose features are cached needs none of these.
    @functools.cached_property
    def network(self) -> EfficientNetLite0:
        """The network, with layers in the encoder's dtype and a classifier in float32."""
        network = load_efficientnet(self._weights)
        network.layers.to(dtype=self.dtype).to(memory_format=torch.channels_last)
        return network.to(self.device)

    @functools.cached_property
    def _maps(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function of pictures float32 (T,3,224,224) that returns the network's last feature maps (T,1280,7,7)."""
        if openvino_networks.serves(self.device, self.dtype):
            run = openvino_networks.compiled(functools.partial(feature_maps, self.network), self.image_size)
            return lambda images: run(images)[0]
        return lambda images: self.network.layers(images.to(self.dtype, memory_format=torch.channels_last)).float()

    @property
    def classifier_weight(self) -> torch.Tensor:
        """The rows (1000,1280) that the classes have in the classifier."""
        return self.network.classifier.weight

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        """Returns tokens (T,5,384), embed (T,384) and concepts (T,C), all float32, of uint8 pixels (T,3,H,W)."""
        return self.features_from_logits(self.logits(pixels))

    # no_grad and not inference_mode, because modules that are trained read the result
    @torch.no_grad()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns class logits (T,5,1000) of the whole frame and its regions, of uint8 pixels (T,3,H,W)."""
        return torch.cat([self._logits(part) for part in pixels.split(batch_size(self.device))])

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        images = (resize_crop(upload(pixels, self.device), self.image_size) - 127) / 128
        return self.classify(self._maps(images))

    def classify(self, maps: torch.Tensor) -> torch.Tensor:
        """Returns class logits (T,5,1000) of the whole frame and its regions, of feature maps (T,1280,7,7)."""
        views = [maps, *(maps[:, :, rows, columns] for rows in WINDOWS for columns in WINDOWS)]
        pooled = torch.stack([view.mean((-2, -1)) for view in views], dim=1)
        return self.network.classifier(pooled)

    @torch.no_grad()
    def features_from_logits(self, logits: torch.Tensor) -> FrameFeatures:
        """Returns the features of frames, given class logits (T,N,1000) that begin with those of the whole frame.

        Simulated frames have logits but no pixels. Their encoding starts here.
        """
        posterior = logits.to(self.device, torch.float32).softmax(-1)
        tokens = F.normalize(posterior @ self.class_text, dim=-1)
        return FrameFeatures(tokens, tokens[:, 0].contiguous(), posterior[:, 0] @ self._membership)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Returns sentence embeddings, normalised after the mean of the classes is subtracted, as for frames."""
        tokens, mask, embed = self.sentences(texts)
        return TextFeatures(tokens - self.centre, mask, F.normalize(embed - self.centre, dim=-1))

    def reads_whole(self, text: str) -> bool:
        return self.sentences.reads_whole(text)

    @functools.cached_property
    def sentences(self) -> SentenceEncoder:
        """The text tower."""
        return SentenceEncoder(self._sentences, self.device)


def _class_text(model: SentenceModel) -> Path:
    """Returns the folder with class_text (1000,384) and centre (384,), which is computed once.

    The row of a class is the mean embedding of its name, of "a photo of a NAME" and of its definition. centre is the
    mean of all rows, and is subtracted from each.
    """
    concepts = imagenet_concepts()

    def build(target: Path) -> None:
        words = concepts.vocabulary.words[:CLASSES]
        texts = [*words, *(f"a photo of a {word}" for word in words), *concepts.definitions]
        sentences = SentenceEncoder(model, torch.device("cpu"))
        embed = sentences.embed(texts).view(3, CLASSES, -1).mean(0)
        centre = embed.mean(0)
        save_file({"class_text": embed - centre, "centre": centre}, target / "class_text.safetensors")

    inputs = {"sentences": assets.ASSETS[model.asset].key, "concepts": concepts.sha, "recipe": 1}
    return assets.derived("lite-class-text", inputs, build)
