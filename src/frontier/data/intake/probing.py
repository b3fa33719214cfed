"""What can be learned from an image file by opening it: size, digests, whether it decodes."""

import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
from PIL import Image

from frontier.errors import UsageError
from frontier.files import safe_join
from frontier.images import ImageError, decode_image, read_bytes

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

THUMBNAIL, FREQUENCIES = 64, 16  # of the hash: side in pixels, frequencies kept each way
SKETCH = 3 * THUMBNAIL  # px; a smaller one moves a bit or two of the hash
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
}
PROBES = pa.schema(
    [
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("status", pa.string()),
        ("message", pa.string()),
        ("notes", pa.list_(pa.string())),
    ]
)


def _cosines() -> npt.NDArray[np.float64]:
    """`[FREQUENCIES, THUMBNAIL]` rows of the discrete cosine transform, in whole numbers."""
    steps = (2 * np.arange(THUMBNAIL) + 1) * np.arange(FREQUENCIES)[:, None]
    return np.round(np.cos(np.pi * steps / (2 * THUMBNAIL)) * 4096)


COSINES = _cosines()


class Probe(NamedTuple):
    """One row of `PROBES`.

    Attributes:
        width, height: in pixels as decoded, upright; 0 if the image cannot be used.
        sha256: of the file, in hex; empty if it cannot be read.
        phash: `perceptual_hash`; empty if the image cannot be used.
        status: "ok", "unsafe-path" or one of `images.Code`.
        notes: what is odd about a usable image: "wrong-extension" or one of `images.Note`.
    """

    width: int = 0
    height: int = 0
    sha256: str = ""
    phash: str = ""
    status: str = "ok"
    message: str = ""
    notes: Sequence[str] = ()


def probe_shard(root: Path, file_names: Sequence[str]) -> Any:
    """Open each file below `root` once: a table of `PROBES`, a row a name, in their order.

    Names are taken from annotations and trusted with nothing. A bad file is reported, never raised.
    """
    probes = [probe(root, name) for name in file_names]
    columns = zip(*probes, strict=True) if probes else [()] * len(PROBES)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, PROBES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PROBES)


def probe(root: Path, file_name: str) -> Probe:
    """Open one image file; see `probe_shard`."""
    digest = ""
    try:
        path = safe_join(root, file_name)
        content = read_bytes(path, file_name)
        digest = hashlib.sha256(content).hexdigest()
        decoded = decode_image(content, file_name[:200], sketch=SKETCH)
    except UsageError as error:
        return Probe(status="unsafe-path", message=str(error))
    except ImageError as error:
        hint = _other_spelling(root, file_name) if error.code == "missing" else ""
        return Probe(sha256=digest, status=error.code, message=error.summary + hint)
    notes: list[str] = [*decoded.notes]
    if PurePosixPath(file_name).suffix.lower() not in SUFFIXES[decoded.format]:
        notes.append("wrong-extension")
    return Probe(
        *decoded.size,
        digest,
        perceptual_hash(decoded.image),
        notes=notes,
    )


def perceptual_hash(image: Image.Image) -> str:
    """256 bits in hex: which low frequencies of a grey image ("L") are at or above their median.

    Distances (in bits) are a handful for the same picture at another size or JPEG quality, and
    about 128 for two pictures that have nothing in common. The cosines are whole numbers, so that
    every sum is exact, the same on every machine, and zero where a blank image has no frequency.

    Reference: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1.
    """
    # averaged in two steps, the first one fast: as good as in one, at a third of the cost
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=1.0)
    strengths = COSINES @ np.asarray(small, np.float64) @ COSINES.T
    middle = strengths.size // 2
    median = np.partition(strengths, middle, axis=None)[middle]
    return np.packbits(strengths >= median).tobytes().hex()


def _other_spelling(root: Path, file_name: str) -> str:
    """File systems of different makers compose accents differently, and so break a name."""
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, file_name)
        if other != file_name and (root / other).is_file():
            return f"; there is one in Unicode form {form}: rename it, or spell its name so"
    return ""
