"""Pictures, in whatever form they come, to the pixels a vision tower wants.

The original leaves reading to its caller (`Image.open(path).convert("RGB")`) and prepares with torchvision. Here
Pillow does both, so torchvision is not needed, and the reading is made fit for pictures from strangers:

- only the formats in `FORMATS`, told by content: nothing that runs a program (PostScript), fetches, or draws (SVG);
- the size is read from the header, and refused, before a pixel is decoded;
- a picture is one frame: the first of an animation, and the only one decoded;
- nothing is fetched from the network. Whoever can name a picture could otherwise make a server call its own intranet.

What `convert("RGB")` gets silently wrong is done right: transparent parts become white (it shows the colour that
happens to be stored under them), 16-bit greys are scaled (it clips them to white), and a photo taken with the camera
turned is turned upright.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # plugins register their formats
from torch import Tensor

from .errors import InputError
from .models.language_model import PictureFormat

Picture: TypeAlias = Image.Image | str | os.PathLike[str] | bytes
"""A PIL image; a path; a file's bytes; or, as a string, a base64 data URL."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", WebPImagePlugin.WebPImageFile.format, TiffImagePlugin.TiffImageFile.format)
MAX_PIXELS = 8192 * 8192  # 0.3 GB once decoded; the towers see about a million
MAX_SIDE = 65_535  # the most that JPEG can say; a decoded row, and the scratch memory of a resize, grow with it
MAX_BYTES = 256 * 1024**2  # of an encoded picture
MAX_SCANNED_PIXELS = 16 * MAX_PIXELS  # each of a JPEG's scans goes over all its pixels; tools write up to a dozen scans
STRIP_PIXELS = 2**20  # converted at a time: a picture needs the memory of two, not of five

# EXIF's orientation -> what turns it upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def as_pixels(images: Any, wanted: PictureFormat, where: str = "images", n_places: int | None = None) -> Tensor:
    """Pictures to what a tower is given: RGB, resized to a square (bicubic, whatever their proportions), normalised.

    Args:
        images: one picture or several in any form `load_picture` takes; or a float tensor [N, 3, S, S], normalised
            already, which is only checked.
        wanted: the tower's size, mean and standard deviation.
        where: what to call them in errors.
        n_places: how many there must be, looked at before any is decoded; None for any number.

    Returns:
        float32 [N, 3, S, S], N at least 1, on the CPU unless a tensor came from elsewhere.

    Raises:
        InputError: names the picture, what is wrong with it, and the remedy.
    """
    if isinstance(images, Tensor):
        pixels = _checked(images, wanted, where)
        check_number(pixels.shape[0], n_places)
        return pixels
    if isinstance(images, (Image.Image, str, os.PathLike, bytes, bytearray, memoryview)):
        check_number(1, n_places)
        return _pixels(load_picture(images, where), wanted)[None]
    if not isinstance(images, Iterable):
        raise InputError(f"{where} is {_show(images)}; pass pictures (PIL images, paths, bytes) or a float tensor")
    several = list(images)
    if not several:
        raise InputError(f"{where} is empty; pass at least one picture, or None for a prompt without any")
    check_number(len(several), n_places)
    return torch.stack([_pixels(load_picture(image, f"{where}[{i}]"), wanted) for i, image in enumerate(several)])


def check_number(given: int, n_places: int | None) -> None:
    """Raise InputError where there are more or fewer pictures than places for them."""
    if n_places is not None and given != n_places:
        raise InputError(f"{given} pictures are given for {n_places} places in the prompt; pass one for each place")


def load_picture(source: object, where: str = "the picture") -> Image.Image:
    """One picture as an upright RGB image of its own size.

    Args:
        source: a PIL image (as it stands: the frame it is at), a path, a file's bytes, or a base64 data URL.
        where: what to call it in errors.

    Raises:
        InputError: not a picture, not in one of `FORMATS`, damaged, too large, or at an address on the network.
    """
    if isinstance(source, Image.Image):
        return _decoded(source, where)
    data, where = _bytes_of(source, where)
    if not data:
        raise InputError(f"{where} is empty: 0 bytes")
    if len(data) > MAX_BYTES:
        raise InputError(f"{where} has {len(data):,} bytes, more than the {MAX_BYTES:,} allowed; save it smaller")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InputError(f"{where} is not a picture, or not in a format that is read here ({_formats()})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{where} is too large: at most {MAX_PIXELS:,} pixels are decoded ({error})") from error
    except Exception as error:  # Pillow's readers raise nearly everything on hostile bytes
        raise _unreadable(where, error) from error
    _check_cost(image, data, where)
    return _decoded(image, where)


def _formats() -> str:
    return ", ".join(FORMATS)


def _unreadable(where: str, error: Exception) -> InputError:
    cause = str(error) or type(error).__name__
    return InputError(f"{where} cannot be read: {cause}; it is damaged or incomplete, save or send it again")


# Where the bytes come from -------------------------------------------------------------------------------------------


def _bytes_of(source: object, where: str) -> tuple[bytes, str]:
    """The encoded picture, and what to call it in errors."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), where
    if isinstance(source, str):
        scheme = source[:16].partition(":")[0].lower()
        if scheme == "data":
            return _data_url(source, where), where
        if source[: len(scheme) + 3].lower() in ("http://", "https://", "ftp://", "file://"):
            raise InputError(
                f"{where} is the address {_show(source)}, and addresses are never fetched: a server would call "
                "whatever its users name. Download it, and pass its bytes or its path"
            )
    if isinstance(source, (str, os.PathLike)):
        return _file(source, where)
    raise InputError(f"{where} is {_show(source)}; pass a PIL image, a path, bytes or a base64 data URL")


def _data_url(url: str, where: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise InputError(f"{where} is the data URL {_show(url)}; write data:image/png;base64,... with the file's bytes")
    if len(body) > MAX_BYTES // 3 * 4 + 4:
        raise InputError(f"{where} has over {MAX_BYTES:,} bytes, the most allowed; save it smaller")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where} is a data URL that is not base64: {error}; it may have been cut off") from error


def _file(source: str | os.PathLike[str], where: str) -> tuple[bytes, str]:
    path = Path(source)
    where = f"{where} ({_show(str(path))})"
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1) if is_file else b""
    except (OSError, ValueError) as error:  # ValueError: a null character
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(
            f"{where} cannot be opened: {cause}. A string is a path, or a data URL that begins with data:"
        ) from error
    if not is_file:
        raise InputError(f"{where} is not a file that can be read to its end")
    return data, where


def _without_waiting(path: str, flags: int) -> int:
    """A named pipe that nobody writes to would hold us for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


# What they say -------------------------------------------------------------------------------------------------------


def _check_cost(image: Image.Image, data: bytes, where: str) -> None:
    """Refuse what is small as a file and takes minutes to decode."""
    n_scans, n_pixels = data.count(b"\xff\xda"), image.width * image.height
    if image.format in ("JPEG", "MPO") and n_scans * max(n_pixels, 256 * 256) > MAX_SCANNED_PIXELS:
        raise InputError(
            f"{where} is a JPEG of {image.width} x {image.height} pixels in {n_scans} scans, which would take too long "
            "to decode; make it smaller, or save it with fewer scans"
        )
    if image.format == "BMP" and image.info.get("compression") in (1, 2):  # decoded in Python, byte by byte
        raise InputError(f"{where} is a run-length encoded BMP, which is not read here; save it as PNG")


def _decoded(image: Image.Image, where: str) -> Image.Image:
    """RGB and upright. The caller's own image stays as it is."""
    width, height = image.size
    if not width or not height:
        raise InputError(f"{where} is empty: {width} x {height} pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(
            f"{where} is too large: {width} x {height} pixels; at most {MAX_PIXELS:,} in all and {MAX_SIDE:,} a side "
            "are decoded"
        )
    try:
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        rgb = image if image.mode == "RGB" and not image.has_transparency_data else _rgb(image, where)
        if turn is None:
            return rgb
        upright = rgb.transpose(turn)
        upright.info = {}  # or it would be turned again by whoever reads its EXIF block next
        return upright
    except InputError:
        raise
    except Exception as error:  # as above
        raise _unreadable(where, error) from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a picture with garbage in its EXIF block is still a picture
        return 1


def _rgb(image: Image.Image, where: str) -> Image.Image:
    """Any mode to RGB, transparent parts on white, some rows at a time."""
    width, height = image.size
    whole = Image.new("RGB", image.size)
    n_rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, n_rows):
        strip = image.crop((0, top, width, min(top + n_rows, height)))
        whole.paste(_strip_rgb(strip, where), (0, top))
    return whole


def _strip_rgb(strip: Image.Image, where: str) -> Image.Image:
    if strip.mode in ("I", "F"):
        raise InputError(
            f"{where} has 32 bits a pixel (mode {strip.mode}), of which none is known to be white; scale it to 0..255 "
            'and convert it to "L" or "RGB"'
        )
    if strip.mode.startswith("I;16"):
        values = np.asarray(strip).astype(np.uint32)
        transparent = strip.info.get("transparency")
        greys = ((values + 128) // 257).astype(np.uint8)  # 65535 -> 255, rounded
        if isinstance(transparent, int):
            greys[values == transparent] = 255
        return Image.fromarray(greys).convert("RGB")
    if strip.mode == "La":  # premultiplied; Pillow goes from it to LA only
        strip = strip.convert("LA")
    if not strip.has_transparency_data:
        return strip.convert("RGB")
    strip = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB")


# What the tower wants ------------------------------------------------------------------------------------------------


def _pixels(image: Image.Image, wanted: PictureFormat) -> Tensor:
    """RGB -> [3, S, S]: torchvision's Resize (of a PIL image), ToTensor and Normalize, in float32."""
    resized = image.resize((wanted.size, wanted.size), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)
    mean, std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    return values.sub_(mean[:, None, None]).div_(std[:, None, None]).contiguous()


def _checked(pixels: Tensor, wanted: PictureFormat, where: str) -> Tensor:
    """A tensor that was prepared elsewhere."""
    shape, size = list(pixels.shape), wanted.size
    if not pixels.is_floating_point():
        raise InputError(
            f"{where} is a tensor of {pixels.dtype}; pixels in a tensor are normalised floats, (value / 255 - "
            f"{wanted.mean}) / {wanted.std}. Pass PIL images to have it done"
        )
    if len(shape) != 4 or shape[0] == 0 or shape[1:] != [3, size, size]:
        raise InputError(f"{where} is a tensor of shape {shape}; this model takes [N, 3, {size}, {size}], N at least 1")
    if pixels.layout != torch.strided or pixels.is_meta:
        raise InputError(f"{where} is a {pixels.layout} tensor on {pixels.device}; pass a dense one that has values")
    pixels = pixels.detach().float()
    if not torch.isfinite(pixels).all():
        raise InputError(f"{where} is a tensor with values that are not finite (NaN or infinity, as float32)")
    return pixels


def _show(value: object) -> str:
    if not isinstance(value, str):
        return f"of type {type(value).__name__}"
    return repr(value) if len(value) <= 80 else repr(value[:77]) + "..."
