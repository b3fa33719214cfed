"""Every bad image ends in a stable code, every good one in upright RGB."""

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontier.images import ImageError, decode, read_image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
JPEG = encoded(NOISE, "JPEG")
PNG = encoded(NOISE, "PNG")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"\xff", "not-an-image"),
        (b"<html>404</html>", "not-an-image"),
        (JPEG[: len(JPEG) // 10], "corrupt"),  # cut within its header
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[: len(JPEG) * 9 // 10], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (png_header(13000, 13000), "too-many-pixels"),
        (png_header(9000, 9000), "too-many-pixels"),
        (encoded(NOISE, "GIF"), "not-an-image"),
    ],
)
def test_bad_content_has_a_code(content: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content, "a.jpg")
    assert caught.value.code == code
    assert "a.jpg" in str(caught.value)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = NOISE.convert("L").convert("I;16") if mode == "I;16" else NOISE.convert(mode)
    content = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    assert decode(content).shape == (40, 60, 3)


def test_16_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = decode(encoded(Image.fromarray(ramp), "PNG"))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert 120 < pixels.mean() < 135


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(NOISE, "JPEG", exif=exif.tobytes())
    assert decode(content).shape[:2] == ((40, 60) if orientation <= 4 else (60, 40))


def test_files_that_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, code in [("gone.jpg", "missing"), ("pipe.jpg", "unreadable")]:
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert caught.value.code == code


def test_random_damage_never_escapes() -> None:
    rng = np.random.default_rng(1)
    for content in (JPEG, PNG):
        for _ in range(100):
            damaged = bytearray(content)
            for place in rng.integers(0, len(damaged), 8):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(ImageError):  # anything else fails the test
                assert decode(bytes(damaged)).ndim == 3
