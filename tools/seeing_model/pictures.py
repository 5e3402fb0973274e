"""Pictures to ask about: shapes and a short word on a plain background, drawn with PIL alone.

A `Scene` is what a picture shows, in words and in fractions of its width and height; `paint` draws it. Which scenes are
held out is decided by what they show, never by how it is drawn: see `Scene.signature`.
"""

from __future__ import annotations

import colorsys
import math
import random
import string
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from tools.default_model.sample import Split, split_of

RGB = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond", "ring")
# Colour -> ranges of hue in degrees, saturation and value. Neighbours keep a gap, so that every shade has one name.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-8, 8), (0.75, 1), (0.7, 1)),
    "orange": ((24, 39), (0.85, 1), (0.9, 1)),
    "yellow": ((51, 62), (0.7, 1), (0.88, 1)),
    "green": ((95, 145), (0.6, 1), (0.45, 1)),
    "blue": ((205, 245), (0.65, 1), (0.6, 1)),
    "purple": ((270, 300), (0.6, 1), (0.45, 0.85)),
    "pink": ((325, 350), (0.25, 0.6), (0.94, 1)),
    "grey": ((0, 360), (0, 0.05), (0.42, 0.66)),
    "black": ((0, 360), (0, 0.3), (0, 0.12)),
    "white": ((0, 360), (0, 0.03), (0.94, 1)),
}
CHARACTERS = string.ascii_uppercase + string.digits
WORDS = tuple(
    "STOP GO EXIT OPEN SHUT PUSH PULL SALE FREE HOT COLD YES NO UP DOWN LEFT RIGHT CAT DOG FISH BIRD TREE SUN "
    "MOON STAR BUS TAXI SHOP BANK CAFE BAR HOTEL MENU TEA MILK BREAD RICE HELLO HI OK WELL NEXT LAST NEW OLD RED "
    "BLUE GREEN BLACK WHITE PINK ONE TWO THREE FOUR FIVE SIX TEN ROAD WAY GATE ZOO PARK POOL BEACH AREA ZONE SLOW "
    "FAST HELP INFO NEWS BOOK PEN CUP KEY BOX MAP CAR BIKE TRAIN PLANE BOAT SHIP LOVE HOME ROOM DOOR WALL FIRE "
    "WATER ICE WIND RAIN SNOW DAY NIGHT TIME YEAR WEEK MAN WOMAN BOY GIRL KING QUEEN JOY WAR PEACE ART MUSIC SONG "
    "FILM PLAY GAME WIN LOSE GOLD".split()
)
_THIRDS = (1 / 3, 2 / 3)
_CLEAR = 0.045  # an object nearer to the border between two thirds than this is not asked about


@dataclass(frozen=True)
class Thing:
    """One shape; centre in fractions of the picture's width and height, size in fractions of the shorter of them."""

    shape: str
    colour: str
    rgb: RGB
    x: float
    y: float
    size: float

    @property
    def cell(self) -> tuple[int, int] | None:
        """Column and row of the 3 by 3 cells it lies in, from the top left; None where one could argue."""
        if any(abs(place - border) < _CLEAR for place in (self.x, self.y) for border in _THIRDS):
            return None
        return int(self.x * 3), int(self.y * 3)


@dataclass(frozen=True)
class Word:
    """Two to five capital letters or digits."""

    text: str
    colour: str
    rgb: RGB
    x: float
    y: float
    height: float  # of the letters, in fractions of the picture's height
    width: float  # of the word, in fractions of the picture's width
    pixel_font: bool
    stroke: float  # thickness added to the letters, in fractions of their height

    def centres(self) -> list[tuple[float, float]]:
        """Where each letter's middle lies, in fractions of the picture."""
        mask, middles = _letters(self.text, self.pixel_font, self.stroke)
        left = self.x - self.width / 2
        return [(left + middle / mask.width * self.width, self.y) for middle in middles]


@dataclass(frozen=True)
class Scene:
    """What a picture shows. `things` are ordered from left to right."""

    width: int
    height: int
    background: str
    background_rgb: RGB
    things: tuple[Thing, ...]
    word: Word | None
    outlined: bool

    @property
    def signature(self) -> str:
        """What is shown, wherever it stands and however large: the unit of the train and test split."""
        return self.background + ": " + ", ".join(sorted(f"{t.colour} {t.shape}" for t in self.things))


def scene(
    rng: random.Random, split: Split, most: int = 6, word_share: float = 0.4, least: int = 1, letters_least: int = 2
) -> Scene:
    """A scene of the split. Neither what it shows nor its word is ever in the other split.

    Args:
        most, least: shapes there may be where there is no word.
        letters_least: length of the shortest words.
        word_share: how many of the scenes hold a word; half of these hold one or two shapes as well.
    """
    while True:
        found = _attempt(rng, split, rng.randint(least, most), word_share, letters_least)
        if found is not None and (not found.things or split_of(found.signature) == split):
            return found


def _attempt(rng: random.Random, split: Split, count: int, word_share: float, letters_least: int) -> Scene | None:
    short = rng.randint(64, 300)
    sides = [short, round(short * rng.choice((1, 1, rng.uniform(1, 1.6))))]
    rng.shuffle(sides)
    names = list(COLOURS)
    background = rng.choices(names, [8 if n == "white" else 3 if n == "black" else 1 for n in names])[0]
    background_rgb = shade(rng, background)
    usable = [n for n in names if n != background]
    with_word = rng.random() < word_share
    count = rng.choice((0, 0, 1, 1, 2)) if with_word else count
    palette = rng.sample(usable, min(len(usable), rng.choice((2, 3, 9))))
    shapes = rng.sample(SHAPES, rng.choice((2, 3, 7)))
    word = _word(rng, split, rng.choice(usable), letters_least, alone=count == 0) if with_word else None
    things = _things(rng, count, palette, shapes, sides, word)
    if things is None:
        return None
    things.sort(key=lambda thing: thing.x)
    found = Scene(sides[0], sides[1], background, background_rgb, tuple(things), word, outlined=rng.random() < 0.15)
    clear = all(_contrast(thing.rgb, background_rgb) > 110 for thing in things)
    return found if clear and (word is None or _contrast(word.rgb, background_rgb) > 160) else None


def shade(rng: random.Random, colour: str) -> RGB:
    """One of the shades that a colour's name stands for."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in COLOURS[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _contrast(a: RGB, b: RGB) -> float:
    return math.dist(a, b)


def _things(
    rng: random.Random, count: int, palette: list[str], shapes: list[str], sides: list[int], word: Word | None
) -> list[Thing] | None:
    """`count` shapes that overlap neither each other nor the word; None where they found no room."""
    things: list[Thing] = []
    largest = {0: 0.6, 1: 0.6, 2: 0.42, 3: 0.36, 4: 0.32, 5: 0.28}.get(count, 0.25)
    if word is not None:
        largest = min(largest, 0.34)
    short = min(sides)
    for _ in range(60):
        if len(things) == count:
            return things
        size = rng.uniform(0.17, largest)
        half_x, half_y = size * short / sides[0] / 2, size * short / sides[1] / 2
        x, y = rng.uniform(half_x + 0.02, 0.98 - half_x), rng.uniform(half_y + 0.02, 0.98 - half_y)
        colour = rng.choice(palette)
        clear = all(
            abs(x - other.x) > half_x + other.size * short / sides[0] / 2 + 0.02
            or abs(y - other.y) > half_y + other.size * short / sides[1] / 2 + 0.02
            for other in things
        )
        if word is not None:
            clear &= (
                abs(x - word.x) > half_x + word.width / 2 + 0.03 or abs(y - word.y) > half_y + word.height * 0.6 + 0.03
            )
        if clear:
            things.append(Thing(rng.choice(shapes), colour, shade(rng, colour), x, y, size))
    return None


def letters(rng: random.Random, split: Split, least: int = 2) -> str:
    """A word of the split: digits, letters at random, or English."""
    while True:
        draw, length = rng.random(), max(least, rng.choice((2, 3, 3, 4, 4, 5)))
        if draw < 0.2:
            text = "".join(rng.choices(string.digits, k=length))
        elif draw < 0.75:
            text = "".join(rng.choices(string.ascii_uppercase, k=length))
        else:
            text = rng.choice(WORDS)
        if len(text) >= least and split_of(text) == split:
            return text


def _word(rng: random.Random, split: Split, colour: str, least: int, alone: bool) -> Word:
    text = letters(rng, split, least)
    mask, _ = _letters(text, False, 0)
    height = rng.uniform(0.17, 0.3)
    width = height * mask.width / mask.height * rng.uniform(0.9, 1.2)
    fits = min(1.0, 0.92 / width)
    height, width = height * fits, width * fits
    x = rng.uniform(width / 2 + 0.02, 0.98 - width / 2)
    y = rng.uniform(height * 0.6 + 0.02, 0.98 - height * 0.6)
    if not alone:
        y = rng.choice((height * 0.6 + rng.uniform(0.03, 0.12), 0.97 - height * 0.6 - rng.uniform(0, 0.1)))
    return Word(
        text,
        colour,
        shade(rng, colour),
        x,
        y,
        height,
        width,
        pixel_font=rng.random() < 0.1,
        stroke=rng.choice((0, 0, 0.03, 0.06)),
    )


@lru_cache(maxsize=512)
def _letters(text: str, pixel_font: bool, stroke: float) -> tuple[Image.Image, list[float]]:
    """A word's mask, as tall as its letters are, and each letter's middle in the mask's pixels.

    PIL brings two fonts along: one of outlines, and one of 6 by 11 pixels.
    """
    if pixel_font:
        font: ImageFont.ImageFont | ImageFont.FreeTypeFont = ImageFont.load_default_imagefont()
        thickness = 0
    else:
        font = ImageFont.load_default(48)
        thickness = round(stroke * 48)
    gap = 1 if pixel_font else 3 + 2 * thickness
    widths = [font.getlength(letter) + gap for letter in text]
    mask = Image.new("L", (math.ceil(sum(widths)) + 8, 80))
    draw = ImageDraw.Draw(mask)
    left, middles = 4.0, []
    for letter, width in zip(text, widths, strict=True):
        draw.text((left, 12), letter, fill=255, font=font, stroke_width=thickness)
        middles.append(left + (width - gap) / 2)
        left += width
    box = mask.getbbox()
    if box is None:
        raise ValueError(f"the word {text!r} leaves no ink")
    return mask.crop(box), [middle - box[0] for middle in middles]


def paint(scene: Scene) -> Image.Image:
    """Draw it, in RGB."""
    picture = Image.new("RGB", (scene.width, scene.height), scene.background_rgb)
    draw = ImageDraw.Draw(picture)
    short = min(scene.width, scene.height)
    for thing in scene.things:
        outline = tuple(value * 3 // 5 for value in thing.rgb) if scene.outlined else thing.rgb
        radius = thing.size * short / 2
        _draw_shape(draw, thing, thing.x * scene.width, thing.y * scene.height, radius, outline)
    if scene.word is not None:
        _draw_word(picture, scene.word)
    return picture


def _draw_shape(
    draw: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, radius: float, outline: tuple[int, ...]
) -> None:
    ink = thing.rgb
    box = (x - radius, y - radius, x + radius, y + radius)
    if thing.shape == "circle":
        draw.ellipse(box, fill=ink, outline=outline)
    elif thing.shape == "ring":
        draw.ellipse(box, outline=ink, width=max(2, round(radius * 0.36)))
    elif thing.shape == "square":
        draw.rectangle((x - radius * 0.88, y - radius * 0.88, x + radius * 0.88, y + radius * 0.88), ink, outline)
    else:
        draw.polygon([(x + dx * radius, y + dy * radius) for dx, dy in _CORNERS[thing.shape]], ink, outline)


def _star() -> list[tuple[float, float]]:
    angles = [(-90 + 36 * i) * math.pi / 180 for i in range(10)]
    return [(math.cos(a) * r, math.sin(a) * r) for a, r in zip(angles, (1.05, 0.43) * 5, strict=True)]


_ARM = 0.34  # half the thickness of a cross
_CORNERS: dict[str, list[tuple[float, float]]] = {
    "triangle": [(0, -0.95), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.85, 0), (0, 1), (-0.85, 0)],
    "star": _star(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip


def _draw_word(picture: Image.Image, word: Word) -> None:
    mask, _ = _letters(word.text, word.pixel_font, word.stroke)
    width, height = max(1, round(word.width * picture.width)), max(1, round(word.height * picture.height))
    mask = mask.resize((width, height), Image.Resampling.BICUBIC)
    left = round(word.x * picture.width - mask.width / 2)
    top = round(word.y * picture.height - mask.height / 2)
    picture.paste(word.rgb, (left, top, left + mask.width, top + mask.height), mask)
