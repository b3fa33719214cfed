"""Bounded decoding: the size is read from the header before any pixel is unpacked."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from frontier.errors import DataError

Pixels = npt.NDArray[np.uint8]
Code = Literal[
    "missing", "unreadable", "empty", "not-an-image", "too-many-pixels", "truncated", "corrupt"
]

MAX_PIXELS = 25_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class ImageError(DataError):
    """One image cannot be used; `code` is stable and meant for tables."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode the image file at `path`; see `decode`."""
    return decode(read_bytes(path), path.name, max_pixels)


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: missing or unreadable; never blocks on a pipe or device.
    """
    if not path.exists():
        raise ImageError("missing", f"{path.name}: no such file")
    if not path.is_file():
        raise ImageError("unreadable", f"{path.name}: not a regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{path.name}: {error.strerror}") from None


def decode(content: bytes, name: str = "image", max_pixels: int = MAX_PIXELS) -> Pixels:
    """Image bytes to `[H, W, 3]` RGB, EXIF orientation applied, first frame only.

    Args:
        name: what to call the image in messages.
        max_pixels: refused above this, from the header, before decoding.

    Raises:
        ImageError: with one of the stable codes.
    """
    if not content:
        raise ImageError("empty", f"{name}: the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError("too-many-pixels", f"{name}: above {max_pixels} pixels") from None
    except UnidentifiedImageError:
        message = f"{name}: not one of {', '.join(FORMATS)}, or its header is damaged"
        raise ImageError("not-an-image", message) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError("corrupt", f"{name}: {error}") from None
    if image.width * image.height > max_pixels:
        size = f"{image.width} x {image.height}"
        raise ImageError("too-many-pixels", f"{name}: {size} is above {max_pixels} pixels")
    return _pixels(image, name)


def _pixels(image: Image.Image, name: str) -> Pixels:
    try:
        image.load()
        return np.array(_as_rgb(_upright(image)), np.uint8)
    except (OSError, ValueError, SyntaxError, IndexError, EOFError) as error:
        code: Code = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(code, f"{name}: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    # a damaged EXIF block may raise anything; the pixels are still good
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit greys at 255 instead of scaling them
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
