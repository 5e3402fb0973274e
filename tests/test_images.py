"""Pictures of every kind, honest and hostile, to pixels."""

from __future__ import annotations

import base64
import io
import os
import random
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glm4.errors import InputError
from glm4.images import MAX_PIXELS, as_pixels, load_picture
from glm4.models.language_model import PictureFormat

CLIP = PictureFormat(28, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
PLAIN = PictureFormat(28, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COLOURS = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 90, 200], [255, 255, 255], [0, 0, 0]]], dtype=np.uint8
)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """A picture of which no two places are alike."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def rgb(source: object) -> list[list[tuple[int, ...]]]:
    """What `load_picture` makes of it, in plain numbers."""
    return [[tuple(pixel) for pixel in row] for row in np.asarray(load_picture(source)).tolist()]


def png(width: int, height: int, *, bits: int = 8, kind: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG with any header, whatever it holds. kind 0: grey, 2: RGB."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


# What becomes of the pixels ------------------------------------------------------------------------------------------


def test_pixels_are_resized_scaled_and_normalised() -> None:
    """Bicubic, to a square whatever the proportions, then (value / 255 - mean) / std per channel."""
    picture = noise(50, 31)
    out = as_pixels([picture, picture.rotate(180)], CLIP)
    assert out.shape == (2, 3, 28, 28)
    assert out.dtype == torch.float32
    resized = np.asarray(picture.resize((28, 28), Image.Resampling.BICUBIC))
    for channel, (mean, std) in enumerate(zip(CLIP.mean, CLIP.std, strict=True)):
        expected = torch.from_numpy((resized[:, :, channel].astype(np.float64) / 255 - mean) / std)
        torch.testing.assert_close(out[0, channel].double(), expected, atol=1e-6, rtol=0)
    # The square it starts from needs no resizing, and comes through as it is.
    square = noise(28, 28)
    back = (as_pixels(square, PLAIN)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(back, np.asarray(square))


def test_the_same_picture_from_everywhere(tmp_path: Path) -> None:
    """PIL image, path as string or Path, bytes, data URL: equal pixels; the caller's image stays as it was."""
    picture = noise(20, 30).convert("P")
    data = encoded(picture, "PNG")
    path = tmp_path / "bild ä.png"
    path.write_bytes(data)
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    wrapped = url[:60] + "\n" + url[60:]  # as mail programs break it
    sources = [picture, path, str(path), data, bytearray(data), memoryview(data), url, wrapped, Image.open(path)]
    outs = [as_pixels(source, CLIP) for source in sources]
    for out in outs:
        assert torch.equal(out, outs[0])
    assert torch.equal(as_pixels(sources, CLIP), torch.cat(outs))
    assert torch.equal(as_pixels(iter(sources), CLIP), torch.cat(outs))
    assert (picture.mode, picture.size) == ("P", (30, 20))


def grey(mode: str) -> Image.Image:
    """Black, middle and white in one row."""
    if mode.startswith("I;16"):
        levels = np.array([[0, 128 * 257, 65535]], dtype=">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, (3, 1), levels.tobytes())
    return Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "I;16L", "I;16B"])
def test_greys(mode: str) -> None:
    """Also of 16 bits, which Pillow's own conversion would clip to white."""
    assert rgb(grey(mode)) == [[(0, 0, 0), (128, 128, 128), (255, 255, 255)]]
    if mode in ("L", "LA", "I;16"):
        assert rgb(encoded(grey(mode), "PNG")) == rgb(grey(mode))
    if mode != "LA":
        assert rgb(encoded(grey(mode), "TIFF")) == rgb(grey(mode))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_colours(mode: str) -> None:
    """Six colours through every mode that has colours; conversions through other colour spaces round."""
    source = Image.fromarray(COLOURS)
    if mode == "LAB":
        from PIL import ImageCms

        source = ImageCms.profileToProfile(
            source, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    elif mode == "PA":
        source = source.convert("P", palette=Image.Palette.ADAPTIVE).convert("PA")
    else:
        source = source.convert("RGBA").convert(mode) if mode == "RGBa" else source.convert(mode)
    assert source.mode == mode
    exact = mode in ("RGB", "RGBA", "RGBX", "RGBa", "PA", "CMYK")
    rounding = 0 if exact else {"P": 60, "LAB": 25}.get(mode, 6)  # Pillow's default palette has 216 colours
    off = np.abs(np.array(rgb(source), dtype=int) - COLOURS).max()
    assert off <= rounding, f"off by {off}"


def test_black_and_white() -> None:
    """One bit a pixel."""
    assert rgb(Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")) == [[(0, 0, 0), (255, 255, 255)]]


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La"])
def test_transparent_parts_become_white(mode: str) -> None:
    """Opaque, half and fully transparent black; whatever colour is stored under full transparency."""
    pixels = np.array([[[0, 0, 0, 255], [0, 0, 0, 128], [200, 200, 200, 0]]], dtype=np.uint8)
    picture = Image.fromarray(pixels, "RGBA") if mode.startswith("RGB") else Image.fromarray(pixels[:, :, 2:], "LA")
    expected = [[(0, 0, 0), (127, 127, 127), (255, 255, 255)]]
    assert rgb(picture.convert(mode)) == expected
    assert rgb(encoded(picture, "PNG")) == expected
    assert rgb(encoded(picture, "WEBP", lossless=True, exact=True)) == expected


def test_a_colour_declared_transparent_becomes_white() -> None:
    """Palette entries, and the one grey or colour that a PNG or GIF may name, also with 16 bits."""
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    white, red, blue = (255, 255, 255), (255, 0, 0), (0, 0, 255)
    assert rgb(encoded(palette, "PNG", transparency=1)) == [[red, white, blue]]
    assert rgb(encoded(palette, "PNG", transparency=bytes([255, 255, 0]))) == [[red, (0, 255, 0), white]]
    assert rgb(encoded(palette, "GIF", transparency=2)) == [[red, (0, 255, 0), white]]
    assert rgb(encoded(palette.convert("RGB"), "PNG", transparency=red)) == [[white, (0, 255, 0), blue]]
    assert rgb(encoded(grey("L"), "PNG", transparency=0)) == [[white, (128, 128, 128), white]]
    assert rgb(encoded(grey("I;16"), "PNG", transparency=128 * 257)) == [[(0, 0, 0), white, white]]


def test_a_cmyk_jpeg() -> None:
    """As print shops send them."""
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    red, green, blue = rgb(encoded(cyan, "JPEG", quality=95))[4][4]
    assert red < 10
    assert green > 245
    assert blue > 245


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_have_no_white(mode: str) -> None:
    """It could be 1, 255, 65535 or anything: said, not guessed."""
    with pytest.raises(InputError, match=rf"32 bits a pixel \(mode {mode}\).*scale it to 0..255"):
        load_picture(Image.new(mode, (3, 3), 7))


TURNED = {  # EXIF's orientation: what the camera stored of an upright picture
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),  # to be turned clockwise by who shows it
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_turned_photo_is_turned_upright(orientation: int) -> None:
    """All eight ways to hold a camera, in each format that says so, and only once."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](COLOURS)))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encoded(stored, kind, exif=exif, **options)
        for source in (data, Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)).convert("RGBA")):
            out = load_picture(source)
            np.testing.assert_array_equal(np.asarray(out), COLOURS, err_msg=f"{kind} {orientation}")
            np.testing.assert_array_equal(np.asarray(load_picture(out)), COLOURS, err_msg="turned twice")


def test_garbage_in_exif_does_not_matter() -> None:
    """A picture is not worse for it."""
    for exif in (b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0", b"Exif\0\0"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert load_picture(encoded(noise(8, 8), "JPEG", exif=exif)).size == (8, 8)


# Sizes and frames ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (3, 2)], ids=str)
def test_odd_sizes(size: tuple[int, int]) -> None:
    """A solid colour stays one, whatever it is stretched from."""
    out = as_pixels(encoded(Image.new("RGB", size, (51, 102, 204)), "PNG"), PLAIN)
    expected = torch.tensor([0.2, 0.4, 0.8])[:, None, None].expand(3, 28, 28)
    torch.testing.assert_close(out[0], expected, atol=1e-6, rtol=0)


def test_of_an_animation_the_first_frame() -> None:
    """Of 10,000; and no other frame is decoded, which would take a hundred times as long."""
    frames = [Image.new("P", (300, 200), n) for n in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    second = gif.rindex(b"\x21\xf9")
    gif = gif[:second] + gif[second:-1] * 9999 + gif[-1:]
    webp = encoded(Image.new("RGB", (9, 9), (255, 0, 0)), "WEBP", save_all=True, lossless=True,
                   append_images=[Image.new("RGB", (9, 9), (0, n, 0)) for n in range(200)])  # fmt: skip
    tiff = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:] * 100)
    for data in (gif, webp, tiff):
        start = time.process_time()
        picture = load_picture(data)
        assert time.process_time() - start < 0.5
        assert picture.getextrema() == ((255, 255), (0, 0), (0, 0))
    with Image.open(io.BytesIO(gif)) as opened:
        assert opened.n_frames == 10_000
        opened.seek(1)  # a PIL image is taken at the frame it stands at
        assert load_picture(opened).getextrema() == ((0, 0), (255, 255), (0, 0))


def peak_bytes() -> int:
    """Most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


BOMBS = {
    "50,000 x 50,000": png(50_000, 50_000),
    "as large as a header can say": png(2**31 - 1, 2**31 - 1),
    "just too many": png(8192, 8193),
    "one long row": png(65_536, 1),
    "a small file": png(20_000, 20_000, bits=1, kind=0, data=bytes(2501 * 20_000)),
    "gif": b"GIF89a" + struct.pack("<HHBBBcHHHHBB", 65_535, 65_535, 0, 0, 0, b",", 0, 0, 65_535, 65_535, 0, 8) + b"\0;",
    "bmp": b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_large_is_refused_from_the_header(name: str) -> None:
    """Without the memory, or the time, to decode it."""
    before, start = peak_bytes(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(InputError, match=r"images\[1\] is too large: .*67,108,864"):
            as_pixels([noise(3, 3), BOMBS[name]], CLIP)
    assert time.process_time() - start < 0.5
    assert peak_bytes() - before < 30e6


def test_a_pil_image_too_large_is_refused_before_it_is_decoded() -> None:
    """It is lazy: opening it decoded nothing."""
    lazy = Image.open(io.BytesIO(png(9000, 9000)))
    with pytest.raises(InputError, match="9000 x 9000 pixels"):
        as_pixels(lazy, CLIP)


def test_a_jpeg_of_many_scans_is_refused() -> None:
    """Each goes over the whole picture: a small file that takes minutes."""
    data = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert load_picture(data).size == (2000, 2000)
    with pytest.raises(InputError, match=r"2000 x 2000 pixels in 50\d+ scans"):
        load_picture(data[:last] + data[last:-2] * 5000 + data[-2:])


def test_a_run_length_encoded_bmp_is_refused() -> None:
    """Pillow decodes it in Python: the slowest bytes there are."""
    data = bytearray(encoded(Image.new("P", (4, 4)), "BMP"))
    assert load_picture(bytes(data)).size == (4, 4)
    data[30] = 1
    with pytest.raises(InputError, match=r"run-length encoded BMP.*PNG"):
        load_picture(bytes(data))


@pytest.mark.slow
def test_the_largest_picture_takes_the_memory_of_two() -> None:
    """Transparent, so that it is converted."""
    data = encoded(Image.new("RGBA", (8192, 8192), (1, 2, 3, 255)), "PNG", compress_level=1)
    before = peak_bytes()
    assert load_picture(data).size == (8192, 8192)
    assert peak_bytes() - before < 2.3 * 4 * MAX_PIXELS


# Bad input -----------------------------------------------------------------------------------------------------------

KINDS = ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_a_truncated_picture(kind: str, share: float) -> None:
    """Named by its place and by its path; the next one works."""
    data = encoded(noise(64, 64), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, about the same
        with pytest.raises(InputError, match=r"images\[2\] (cannot be read: .*damaged or incomplete|is not a picture)"):
            as_pixels([data, data, data[: int(len(data) * share)]], CLIP)
    assert as_pixels(data, CLIP).shape == (1, 3, 28, 28)


@pytest.mark.parametrize(
    "data",
    [
        b"<html><body><img src=x></body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        b"%PDF-1.7\n%",
        b"P6\n2 2\n255\n" + bytes(12),
        b"PK\x03\x04" + bytes(60),
        b"\0\0\0\x20ftypheic" + bytes(60),
        b"hello",
        bytes(1000),
    ],
    ids=["html", "svg", "eps", "pdf", "ppm", "zip", "heic", "text", "zeros"],
)
def test_not_a_picture(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that draws, fetches or runs programs is even tried."""
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(InputError, match=r"is not a picture.*\(JPEG, PNG, GIF, BMP, WEBP, TIFF\)"):
        load_picture(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_a_polyglot_is_a_picture_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """A picture with a web page and an archive behind it, under another file's name; the page with one behind it."""
    picture, page = noise(8, 8), b"<html><script>alert(1)</script></html>PK\x03\x04" + bytes(40)
    data = encoded(picture, kind)
    path = tmp_path / "page.html"
    path.write_bytes(data + page)
    np.testing.assert_array_equal(np.asarray(load_picture(path)), np.asarray(load_picture(data)))
    with pytest.raises(InputError, match="is not a picture"):
        load_picture(page + data)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("http://127.0.0.1/a.png", r"is the address 'http://127.0.0.1/a.png'.*never fetched.*its bytes or its path"),
        ("HTTPS://example.org/a.png", "never fetched"),
        ("file:///etc/passwd", "never fetched"),
        ("missing.png", r"images \('missing.png'\) cannot be opened: No such file"),
        ("a\0b.png", "cannot be opened"),
        ("iVBORw0KGgo" * 999, "cannot be opened: File name too long.*begins with data:"),
        ("/", "cannot be opened: Is a directory"),
        ("", "is a directory|Is a directory"),
        ("/dev/zero", "is not a file that can be read to its end"),
        ("data:image/png,%89PNG", "write data:image/png;base64"),
        ("data:image/png;base64", "write data:image/png;base64"),
        ("data:image/png;base64,%%%", "not base64"),
        ("data:image/png;base64,iVBOR", "not base64.*cut off"),
        ("data:image/png;base64,", "is empty"),
        (b"", "images is empty: 0 bytes"),
        ([], "images is empty; pass at least one"),
        (None, "images is of type NoneType"),
        (3, "images is of type int"),
        ([None], r"images\[0\] is of type NoneType"),
        (np.zeros((3, 3, 3)), r"images\[0\] is of type ndarray"),
        (Image.new("RGB", (0, 5)), "images is empty: 0 x 5 pixels"),
    ],
    ids=lambda value: None if isinstance(value, (np.ndarray, list)) else str(value)[:30],
)  # fmt: skip
def test_sources_that_are_none(source: Any, match: str) -> None:
    """What was wrong, the value, the remedy."""
    with pytest.raises(InputError, match=match):
        as_pixels(source, CLIP)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody will ever write to it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file that can be read to its end"):
        load_picture(tmp_path / "pipe")


def test_hostile_bytes_raise_input_error_and_nothing_else() -> None:
    """Damaged at random: an InputError or a picture, quickly."""
    exif = Image.Exif()
    exif[0x0112] = 6
    base = noise(12, 16)
    seeds = [encoded(base, kind, **({} if kind in ("GIF", "BMP") else {"exif": exif})) for kind in KINDS]
    seeds += [encoded(base, "TIFF", compression="tiff_lzw"), encoded(base, "JPEG", progressive=True)]
    dice = random.Random(5)
    outcomes = {True: 0, False: 0}
    for _ in range(800):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice([1, 2, 6, 20])):
            data[dice.randrange(len(data))] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_picture(bytes(data))
                readable = True
            except InputError:
                readable = False
        assert time.process_time() - start < 2, data.hex()
        outcomes[readable] += 1
    assert min(outcomes.values()) > 100, outcomes


# Tensors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_normalised_tensor_is_taken_as_it_is(dtype: torch.dtype) -> None:
    """In float32, whatever it came in."""
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(as_pixels(pixels, CLIP), pixels.float())
    assert as_pixels(pixels, CLIP).dtype == torch.float32


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), "torch.uint8.*normalised floats"),
        (torch.zeros(3, 28, 28), r"\[3, 28, 28\]; this model takes \[N, 3, 28, 28\]"),
        (torch.zeros(1, 28, 28, 3), r"\[1, 28, 28, 3\]"),
        (torch.zeros(1, 3, 56, 56), r"\[1, 3, 56, 56\]"),
        (torch.zeros(0, 3, 28, 28), "N at least 1"),
        (torch.full((1, 3, 28, 28), float("nan")), "not finite"),
        (torch.full((1, 3, 28, 28), float("inf")), "not finite"),
        (torch.full((1, 3, 28, 28), 1e300, dtype=torch.float64), "not finite"),
        (torch.zeros(1, 3, 28, 28).to_sparse(), "dense"),
        (torch.zeros(1, 3, 28, 28, device="meta"), "dense"),
    ],
    ids=["uint8", "no batch", "channels last", "another size", "none", "nan", "inf", "too large", "sparse", "meta"],
)
def test_tensors_that_are_no_pixels(pixels: torch.Tensor, match: str) -> None:
    """Shape, dtype and values."""
    with pytest.raises(InputError, match=match):
        as_pixels(pixels, CLIP)
