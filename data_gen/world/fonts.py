"""Glyphs of a symbol or emoji font as additional shapes."""

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from data_gen.world.vocabulary import GLYPHS
from videollm.errors import ConfigError

_BITMAP_SIZE = 109  # the one size that colour emoji fonts made of bitmaps have
_ABSENT = "\U0010fffe"  # a code point that no font has a glyph for


@cache
def _load(font: Path) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(font, _BITMAP_SIZE)
    except OSError as error:
        raise ConfigError(
            f"{font} is not a font that can be read ({error}); give a TrueType or OpenType file"
        ) from None


def draw_glyph(font: Path, glyph: str) -> Image.Image:
    """The cropped glyph as RGBA, in the colours of the font, or white if it has none."""
    canvas = Image.new("RGBA", (3 * _BITMAP_SIZE, 3 * _BITMAP_SIZE))
    ImageDraw.Draw(canvas).text(
        (_BITMAP_SIZE, _BITMAP_SIZE), glyph, font=_load(font), fill="white", embedded_color=True
    )
    return canvas.crop(canvas.getbbox())


@cache
def glyph_names(font: Path | None) -> list[str]:
    """The names of the glyphs that the font has."""
    if font is None:
        return []
    absent = draw_glyph(font, _ABSENT).tobytes()
    return [name for name, glyph in GLYPHS.items() if draw_glyph(font, glyph).tobytes() != absent]
