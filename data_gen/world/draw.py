"""Draws the frames of a clip. Each thing is drawn once, large, and then turned, scaled and placed in every frame.

P is the frame's width and height in pixels. The background is painted twice as wide and high, so that the camera can
move: it spans -0.5 to 1.5 where the frame at rest spans 0 to 1.
"""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil, cos, floor, pi, radians, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_gen.world.clip import Background, Thing, WorldClip
from data_gen.world.fonts import draw_glyph
from data_gen.world.shapes import DRAWINGS, Ellipse, Polygon, Tone
from data_gen.world.vocabulary import COLOURS, GLYPHS, Rgb
from videollm.errors import ConfigError

_EXTENT = 1.06  # half the width of a sprite, in radii; leaves room for its soft edge
_FINER = 4  # sprites are drawn this much larger and then reduced
_PIXEL_ART = 13  # pixels across a thing in the style "pixel"
_CODES: dict[Tone, int] = {"main": 0, "dark": 1, "light": 2}

Sprite = tuple[Image.Image, Image.Image]  # colours (RGB, filled beyond the outline) and coverage (L)


def frames(clip: WorldClip, size: int, photos: tuple[Path, ...], font: Path | None) -> Iterator[np.ndarray]:
    """Yields uint8 (P,P,3) for each stored frame, in order. Neighbouring frames that look alike are the same array."""
    painter = _Painter(clip, size, photos, font)
    disturb = _Disturbance(clip, size)
    last_state, picture = None, np.empty(0)
    for frame in clip.kept:
        state = painter.state(frame)
        if state != last_state:
            picture, last_state = painter.paint(frame), state
        yield disturb(picture)


class _Painter:
    def __init__(self, clip: WorldClip, size: int, photos: tuple[Path, ...], font: Path | None):
        self._clip = clip
        self._size = size
        self._x, self._y, self._radius = clip.stage.on_screen()
        pixels = [ceil(2 * _EXTENT * radius * size) for radius in self._radius.max(1)]
        self._sprites: list[list[Sprite]] = [
            [_sprite(thing, colour, clip.style, width, font) for colour in (thing.colour, thing.next_colour) if colour]
            for thing, width in zip(clip.things, pixels, strict=True)
        ]
        self._grounds = [_ground(background, clip.style, size, photos) for background in clip.backgrounds]
        stage = clip.stage
        self._values = np.concatenate(
            [stage.camera, *(a for a in (stage.x, stage.y, stage.radius, stage.angle, stage.alpha, stage.mix))]
        )

    def state(self, frame: int) -> tuple[int, bytes]:
        """A value that is equal for frames that look the same, which are painted once."""
        return self._clip.scene_of(frame), self._values[:, frame].tobytes()

    def paint(self, frame: int) -> np.ndarray:
        canvas = self._seen_ground(frame)
        for row in np.flatnonzero(self._clip.stage.alpha[:, frame]):
            self._place(canvas, int(row), frame)
        return np.asarray(canvas)

    def _seen_ground(self, frame: int) -> Image.Image:
        size = self._size
        x, y, zoom = self._clip.stage.camera[:, frame]
        left, top = (x + 0.5) * size - size / (2 * zoom), (y + 0.5) * size - size / (2 * zoom)
        ground = self._grounds[self._clip.scene_of(frame)]
        if zoom == 1 and x == y == 0.5:
            return ground.crop((size // 2, size // 2, size // 2 + size, size // 2 + size))
        return ground.transform(
            (size, size), Image.Transform.AFFINE, (1 / zoom, 0, left, 0, 1 / zoom, top), Image.Resampling.BILINEAR
        )

    def _place(self, canvas: Image.Image, row: int, frame: int) -> None:
        x, y = self._x[row, frame] * self._size, self._y[row, frame] * self._size
        half = _EXTENT * self._radius[row, frame] * self._size
        left, top = floor(x - half), floor(y - half)
        width, height = ceil(x + half) - left, ceil(y + half) - top
        stage = self._clip.stage
        colours, coverage = self._mixed(row, float(stage.mix[row, frame]))
        scale = colours.width / (2 * half)
        angle = radians(stage.angle[row, frame])
        a, b = scale * cos(angle), scale * sin(angle)
        dx, dy = left - x, top - y
        centre = colours.width / 2
        affine = (a, b, centre + a * dx + b * dy, -b, a, centre - b * dx + a * dy)
        shown = [
            image.transform((width, height), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
            for image in (colours, coverage)
        ]
        alpha = float(stage.alpha[row, frame])
        mask = shown[1] if alpha == 1 else shown[1].point([round(v * alpha) for v in range(256)])
        canvas.paste(shown[0], (left, top), mask)

    def _mixed(self, row: int, mix: float) -> Sprite:
        first, *following = self._sprites[row]
        if not following or mix == 0:
            return first
        return Image.blend(first[0], following[0][0], mix), first[1]


def _blend(colour: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _tones(colour: str) -> np.ndarray:
    """uint8 (4,3): the colour, its dark and its light shade, and the second colour of textures."""
    main = COLOURS[colour]
    light, second = _blend(main, (255, 255, 255), 0.65), _blend(main, (255, 255, 255), 0.6)
    dark = _blend(main, (0, 0, 0), 0.45)
    if colour == "black":
        dark = (74, 74, 74)
    if colour == "white":
        light, second = (190, 190, 190), (164, 164, 164)
    return np.array([main, dark, light, second], np.uint8)


def _sprite(thing: Thing, colour: str, style: str, width: int, font: Path | None) -> Sprite:
    """The thing upright, in one of its colours, `width` pixels wide."""
    codes, coverage = _glyph(thing.shape, width, font) if thing.shape in GLYPHS else _drawing(thing.shape, width)
    codes = np.where((codes == 0) & _pattern(thing.texture, len(codes)), 3, codes)
    colours, coverage = _STYLES[style](_tones(colour)[codes], coverage, colour)
    return _reduced(colours, coverage, style, width)


def _reduced(colours: np.ndarray, coverage: np.ndarray, style: str, width: int) -> Sprite:
    image, mask = Image.fromarray(colours), Image.fromarray(coverage)
    if style == "pixel":
        image = image.resize((_PIXEL_ART, _PIXEL_ART), Image.Resampling.BOX)
        mask = mask.resize((_PIXEL_ART, _PIXEL_ART), Image.Resampling.BOX).point([0] * 110 + [255] * 146)
        return image.resize((width, width), Image.Resampling.NEAREST), mask.resize(
            (width, width), Image.Resampling.NEAREST
        )
    return image.reduce(_FINER), mask.reduce(_FINER)


@lru_cache(maxsize=512)
def _drawing(shape: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tone codes and coverage, both uint8 (W,W), W being _FINER times the width."""
    side = width * _FINER
    codes, coverage = Image.new("L", (side, side)), Image.new("L", (side, side))
    layers = [(codes, True), (coverage, False)]

    def at(value: float) -> float:
        return (value / _EXTENT + 1) / 2 * side

    for layer in DRAWINGS[shape]:
        for image, is_code in layers:
            if is_code and layer.tone == "hole":
                continue
            fill = _CODES[layer.tone] if is_code else 255 * (layer.tone != "hole")
            draw = ImageDraw.Draw(image)
            match layer:
                case Polygon(points):
                    draw.polygon([(at(x), at(y)) for x, y in points], fill=fill)
                case Ellipse(left, top, right, bottom):
                    draw.ellipse((at(left), at(top), at(right), at(bottom)), fill=fill)
    return np.asarray(codes), np.asarray(coverage)


@lru_cache(maxsize=128)
def _glyph(name: str, width: int, font: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same for a glyph of a font, whose dark and light parts become the tones."""
    side = width * _FINER
    glyph = draw_glyph(font, GLYPHS[name])
    scale = 1.9 / _EXTENT / 2 * side / float(np.hypot(*glyph.size))
    glyph = glyph.resize((round(glyph.width * scale), round(glyph.height * scale)), Image.Resampling.BOX)
    canvas = Image.new("RGBA", (side, side))
    canvas.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    alpha = np.asarray(canvas.getchannel("A"))
    grey = np.asarray(canvas.convert("L"))
    is_plain = not alpha.any() or grey[alpha == 255].std() < 8
    codes = np.zeros_like(grey) if is_plain else np.select([grey < 70, grey > 225], [1, 2], 0).astype(np.uint8)
    return codes, alpha


@lru_cache(maxsize=128)
def _pattern(texture: str, side: int) -> np.ndarray:
    """bool (side,side): where the second colour of the texture is."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side * 2 * _EXTENT - _EXTENT
    match texture:
        case "striped":
            return np.floor((x + y) * 2) % 2 == 1
        case "dotted":
            return np.hypot((x + 0.25) % 0.5 - 0.25, (y + 0.25) % 0.5 - 0.25) < 0.14
        case "checkered":
            return (np.floor(x * 2) + np.floor(y * 2)) % 2 == 1
        case _:
            return np.zeros((side, side), bool)


def _flat(colours: np.ndarray, coverage: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    return colours, coverage


def _shaded(colours: np.ndarray, coverage: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Light from above."""
    light = np.linspace(1.12, 0.74, len(colours))[:, None, None]
    return np.minimum(colours * light, 255).astype(np.uint8), coverage


def _outline(colours: np.ndarray, coverage: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """A thick contour in the thing's colour around a pale inside."""
    soft = Image.fromarray(coverage).filter(ImageFilter.GaussianBlur(0.05 * len(coverage)))
    inside = (np.asarray(soft) > 236)[..., None]
    pale = (colours.astype(np.uint16) + 3 * 236) // 4
    return np.where(inside, pale, np.array(COLOURS[colour])).astype(np.uint8), coverage


def _chalk(colours: np.ndarray, coverage: np.ndarray, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Chalk on rough ground, which leaves grains uncovered."""
    grains = np.random.default_rng(len(coverage)).random((len(coverage) // 6 + 1,) * 2)
    rough = np.asarray(
        Image.fromarray((grains * 255).astype(np.uint8)).resize(coverage.shape, Image.Resampling.BICUBIC)
    )
    return colours, (coverage * np.clip((rough.astype(np.float32) - 40) / 70, 0.15, 1)).astype(np.uint8)


_STYLES = {"flat": _flat, "shaded": _shaded, "outline": _outline, "pixel": _flat, "chalk": _chalk}


def _ground(background: Background, style: str, size: int, photos: tuple[Path, ...]) -> Image.Image:
    """RGB (2P,2P)."""
    side = 2 * size
    rng = np.random.default_rng(background.seed)
    if background.photo is not None:
        grey = _photo(photos[background.photo], side) + background.level
    else:
        grey = (background.level + _SURFACES[background.kind](side, rng))[..., None]
    image = Image.fromarray(np.clip(grey + np.array(background.tint), 0, 255).astype(np.uint8))
    if style == "pixel":
        cells = (28, 28)
        image = image.resize(cells, Image.Resampling.BOX).resize((side, side), Image.Resampling.NEAREST)
    if style == "outline":
        line = _blend((background.level, background.level, background.level), (128, 128, 160), 0.35)
        draw = ImageDraw.Draw(image)
        for at in np.linspace(0, side, 24):
            draw.line([(at, 0), (at, side)], fill=line)
            draw.line([(0, at), (side, at)], fill=line)
    return image


def _plain(side: int, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((side, side))


def _gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * pi)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return 40 * (x * cos(angle) + y * sin(angle))


def _noise(side: int, rng: np.random.Generator) -> np.ndarray:
    """Clouds of two sizes."""
    total = np.zeros((side, side))
    for cells, strength in ((10, 90.0), (36, 45.0)):
        coarse = Image.fromarray(rng.random((cells, cells), np.float32) - np.float32(0.5))
        total += strength * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(total, -34, 34)


_SURFACES = {"plain": _plain, "gradient": _gradient, "noise": _noise}


@lru_cache(maxsize=16)
def _photo(path: Path, side: int) -> np.ndarray:
    """float64 (side,side,3) around 0: the middle of the photograph, paler and flatter, so that things stand out."""
    try:
        with Image.open(path) as photo:
            image = photo.convert("RGB")
    except OSError as error:
        raise ConfigError(f"{path} is not a picture that can be read ({error}); take it out of the folder") from None
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    square = image.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + edge, top + edge))
    values = np.asarray(square, np.float64)
    grey = values.mean(2, keepdims=True)
    flat = grey - grey.mean()
    return np.clip(flat * (24 / max(flat.std(), 1)), -40, 40) + 0.25 * (values - grey)


class _Disturbance:
    """Changes the pixels of the split of perturbed clips."""

    def __init__(self, clip: WorldClip, size: int):
        self._rng = np.random.default_rng(clip.backgrounds[0].seed + 1)
        self._size = size
        self._apply = {"noise": self._noise, "blur": self._blur, "occlusion": self._occlude}.get(
            clip.perturbation or ""
        )
        middles = (np.arange(3) + self._rng.uniform(0.3, 0.7, 3)) / 3
        self._bars = [round((middle - 0.03) * size) for middle in middles]
        self._sigma = self._rng.uniform(18, 36)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return self._apply(picture) if self._apply else picture

    def _noise(self, picture: np.ndarray) -> np.ndarray:
        grain = self._rng.standard_normal(picture.shape, np.float32) * self._sigma
        return np.clip(picture + grain, 0, 255).astype(np.uint8)

    def _blur(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.018 * self._size)))

    def _occlude(self, picture: np.ndarray) -> np.ndarray:
        """Three upright bars in front of everything, narrower than any thing."""
        covered = picture.copy()
        for left in self._bars:
            covered[:, left : left + max(2, round(0.06 * self._size))] = 100
        return covered
