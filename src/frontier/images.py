"""Bounded decoding: the size is read from the header before any pixel is unpacked."""

import contextlib
import io
import stat
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from frontier.errors import DataError

Pixels = npt.NDArray[np.uint8]
Code = Literal[
    "missing",
    "unreadable",
    "too-large",
    "empty",
    "not-an-image",
    "too-many-pixels",
    "truncated",
    "corrupt",
]
Note = Literal["exif-rotated", "cmyk", "sixteen-bit", "alpha", "animated"]

MAX_PIXELS = 25_000_000
MAX_BYTES = 4 * MAX_PIXELS  # of a file: as many pixels stored plainly, with alpha
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
PNG_DEPTH = 24  # offset of the bits per channel: the first chunk of a PNG is always its header


class ImageError(DataError):
    """One image cannot be used; `code` is stable and meant for tables."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Decoded(NamedTuple):
    """An image in RGB (or grey), upright, first frame only, and how it was stored.

    Attributes:
        size: width and height of the whole, upright; that of `image`, unless it is a sketch.
        format: one of `FORMATS`.
        mode: Pillow's name of the stored channels, such as "L" or "CMYK".
        notes: what was done to it: rotated by its EXIF orientation, converted from CMYK, cut from
            16 bits to the upper 8, alpha ignored, later frames ignored.
    """

    image: Image.Image
    size: tuple[int, int]
    format: str
    mode: str
    notes: list[Note]


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode the image file at `path`; see `decode`."""
    return decode(read_bytes(path), path.name, max_pixels)


def read_bytes(path: Path, name: str = "") -> bytes:
    """The bytes of a regular file.

    Args:
        name: what to call it in messages; its own name if that is empty.

    Raises:
        ImageError: missing, unreadable or too large; never blocks on a pipe or device.
    """
    name = (name or path.name)[:200]
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError("unreadable", f"{name}: not a regular file")
        if facts.st_size > MAX_BYTES:
            size = f"{facts.st_size} bytes"
            raise ImageError("too-large", f"{name}: {size} is above {MAX_BYTES} bytes")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("missing", f"{name}: no such file") from None
    except OSError as error:
        raise ImageError("unreadable", f"{name}: {error.strerror}") from None


def decode(content: bytes, name: str = "image", max_pixels: int = MAX_PIXELS) -> Pixels:
    """Image bytes to `[H, W, 3]` RGB; see `decode_image`."""
    return np.array(decode_image(content, name, max_pixels).image, np.uint8)


def decode_image(
    content: bytes, name: str = "image", max_pixels: int = MAX_PIXELS, sketch: int = 0
) -> Decoded:
    """Decode image bytes, every one of them: a cut tail is an error.

    Args:
        name: what to call the image in messages.
        max_pixels: refused above this, from the header, before decoding.
        sketch: give the brightness alone ("L"), and maybe smaller, with no side below this. A JPEG
            is then read as far, for its codes must all be undone before pixels are made of them;
            making fewer, and no colours, saves half of the time.

    Raises:
        ImageError: with one of the stable codes.
    """
    with warnings.catch_warnings():  # what matters of Pillow's is found out here
        warnings.filterwarnings("ignore", module="PIL")
        return _loaded(_opened(content, name, max_pixels), content, name, sketch)


def _loaded(image: Image.Image, content: bytes, name: str, sketch: int) -> Decoded:
    # a file that holds several JPEG images (a phone's photo with its preview) is one of them
    kind, mode = (image.format or "").replace("MPO", "JPEG"), image.mode
    try:
        notes = _notes(image, content)
        size = image.size
        if sketch:
            image.draft("L", (sketch, sketch))
        image.load()
        if turn := _turned(image):
            notes.append("exif-rotated")
        upright = (size[1], size[0]) if turn in SIDEWAYS else size
        return Decoded(_as_mode(image, "L" if sketch else "RGB"), upright, kind, mode, notes)
    except MemoryError:
        raise
    except Exception as error:  # what a damaged file makes a decoder raise, nobody has listed
        code: Code = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise ImageError(code, f"{name}: {error}") from None


def _opened(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """The header alone, its size within bounds."""
    if not content:
        raise ImageError("empty", f"{name}: the file is empty")
    try:
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
    return image


def _notes(image: Image.Image, content: bytes) -> list[Note]:
    facts: dict[Note, bool] = {
        "cmyk": image.mode == "CMYK",
        "sixteen-bit": image.format == "PNG" and content[PNG_DEPTH] == 16,
        "alpha": image.has_transparency_data,
        "animated": image.format != "MPO" and getattr(image, "is_animated", False),
    }
    return [note for note, holds in facts.items() if holds]


def _turned(image: Image.Image) -> int:
    """Turn the image upright in place; its EXIF orientation, 0 if there was nothing to do."""
    # a damaged EXIF block may raise anything; the pixels are still good
    with contextlib.suppress(Exception):
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
        if orientation in range(2, 9):
            ImageOps.exif_transpose(image, in_place=True)
            return orientation
    return 0


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit greys at 255 instead of scaling them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)  # ignored, and Pillow warns of some
    return image if image.mode == mode else image.convert(mode)
