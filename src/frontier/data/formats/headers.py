"""How large an image is, without unpacking a pixel."""

import contextlib
import warnings
from pathlib import Path

from PIL import ExifTags, Image

from frontier.images import FORMATS, SIDEWAYS


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height once the EXIF orientation is applied; (0, 0) if the header says nothing."""
    if not path.is_file():
        return 0, 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                return (height, width) if _orientation(image) in SIDEWAYS else (width, height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def _orientation(image: Image.Image) -> int | None:
    # a damaged EXIF block may raise anything; it turns nothing when the pixels are read either
    with contextlib.suppress(Exception):
        # of the base class: that of a PNG decodes the image in search of a block behind the pixels
        orientation: int | None = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        return orientation
    return None
