"""The configuration of what a model shows beside its text: pictures, videos and sounds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from videollm.checks import check, check_choice, check_positive

OutputKind = Literal["none", "transformer", "qformer"]
Modality = Literal["image", "video", "audio"]
MODALITIES: tuple[Modality, ...] = ("image", "video", "audio")
LETTERS: dict[Modality, str] = {"image": "IMG", "video": "VID", "audio": "AUD"}  # of the names of signal tokens

MOST_TOKENS = 1024  # signal tokens of a modality, which are added to the tokenizer


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """Signal tokens that the language model writes where it shows something, and the projections that turn their hidden
    states into the text conditions of diffusion models (NExT-GPT, Wu et al. 2023).

    Tuples have one value for each of `MODALITIES`. The defaults are those of NExT-GPT's published weights, which show
    with Stable Diffusion 1.5, ZeroScope and AudioLDM.

    Args:
        kind: The kind of projection. "none" turns the outputs off: the model then answers with text alone.
        decoders: The diffusers pipelines whose text conditions the projections learn, as directories or hub ids. "" is
            a modality that the model does not show.
        tokens: The numbers of signal tokens.
        embeddings, widths: The numbers of embeddings of the conditions, and their widths.
        width, layers, heads: Sizes of the projections.
    """

    kind: OutputKind = "none"
    decoders: tuple[str, ...] = ("", "", "")
    tokens: tuple[int, ...] = (4, 24, 8)
    embeddings: tuple[int, ...] = (77, 77, 1)
    widths: tuple[int, ...] = (768, 1024, 512)
    width: int = 512
    layers: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        check_choice("output kind", self.kind, OutputKind)
        for name in ("decoders", "tokens", "embeddings", "widths"):
            values = getattr(self, name)
            check(
                len(values) == len(MODALITIES),
                f"{name} of the outputs is {values}; it must have one value for each of {', '.join(MODALITIES)}",
            )
        for name in ("tokens", "embeddings", "widths"):
            check(min(getattr(self, name)) > 0, f"{name} of the outputs is {getattr(self, name)}; all must be above 0")
        check(max(self.tokens) <= MOST_TOKENS, f"tokens of the outputs is {self.tokens}; each is at most {MOST_TOKENS}")
        check_positive(width=self.width, layers=self.layers, heads=self.heads)
        check(self.width % self.heads == 0, f"output width {self.width} must be a multiple of heads {self.heads}")
        check(
            self.kind == "none" or any(self.decoders),
            f"the output kind is {self.kind}, but there is no decoder; name a diffusers pipeline, or set the kind to "
            "none",
        )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """What the model shows."""
        if self.kind == "none":
            return ()
        return tuple(modality for modality, decoder in zip(MODALITIES, self.decoders, strict=True) if decoder)

    def sizes(self, modality: Modality) -> tuple[int, int, int]:
        """Returns the number of signal tokens, and the number and the width of the embeddings of a condition."""
        number = MODALITIES.index(modality)
        return self.tokens[number], self.embeddings[number], self.widths[number]

    def of_shapes(self, shapes: Mapping[Modality, tuple[int, int]]) -> "OutputConfig":
        """Returns a copy whose conditions have these numbers of embeddings and widths."""
        known = [shapes.get(modality, self.sizes(modality)[1:]) for modality in MODALITIES]
        return replace(self, embeddings=tuple(q for q, _ in known), widths=tuple(c for _, c in known))

    def signal_tokens(self, modality: Modality) -> list[str]:
        """Returns the names of the signal tokens in their order, such as [IMG0], [IMG1]."""
        return [f"[{LETTERS[modality]}{number}]" for number in range(self.sizes(modality)[0])]
