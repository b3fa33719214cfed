"""20 kinds of bad image, each as it is and damaged at random: every one has its code."""

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from frontier.data.intake.probing import probe_shard
from frontier.images import Code

SAMPLE, FULL = 5, 200  # random mutations of each kind
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


def coded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return coded(NOISE, "JPEG", exif=exif.tobytes())


def wrong_checksum() -> bytes:
    content = bytearray(PNG)
    content[-20] ^= 1
    return bytes(content)


JPEG, PNG = coded(NOISE, "JPEG"), coded(NOISE, "PNG")
PROGRESSIVE = coded(NOISE, "JPEG", progressive=True)
PALETTE = NOISE.quantize(16)
GREY16 = Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80))

# what it is made of, and its status; notes where it is used
KINDS: dict[str, tuple[Callable[[], bytes], str, set[str]]] = {
    "0 bytes": (lambda: b"", "empty", set()),
    "1 byte": (lambda: b"\xff", "not-an-image", set()),
    "truncated at 10 %": (lambda: JPEG[: len(JPEG) // 10], "corrupt", set()),  # in its header
    "truncated at 50 %": (lambda: JPEG[: len(JPEG) // 2], "truncated", set()),
    "truncated at 99 %": (lambda: JPEG[: len(JPEG) * 99 // 100], "truncated", set()),
    "wrong extension": (lambda: PNG, "ok", {"wrong-extension"}),
    "text": (lambda: b"not an image\n", "not-an-image", set()),
    "an HTML error page": (lambda: b"<html>404</html>", "not-an-image", set()),
    "CMYK": (lambda: coded(NOISE.convert("CMYK"), "JPEG"), "ok", {"cmyk"}),
    "16 bits": (lambda: coded(GREY16, "PNG"), "ok", {"sixteen-bit", "wrong-extension"}),
    "a palette with alpha": (
        lambda: coded(PALETTE, "PNG", transparency=0), "ok", {"alpha", "wrong-extension"},
    ),
    "1 px": (lambda: coded(NOISE.crop((0, 0, 1, 1)), "JPEG"), "ok", set()),
    "20000 x 1": (lambda: coded(NOISE.resize((20_000, 1)), "JPEG"), "ok", set()),
    "an animation": (
        lambda: coded(NOISE, "WEBP", save_all=True, append_images=[NOISE.rotate(180)]),
        "ok",
        {"animated", "wrong-extension"},
    ),
    "a GIF": (lambda: coded(PALETTE, "GIF"), "not-an-image", set()),
    **{
        f"EXIF orientation {n}": (partial(turned, n), "ok", {"exif-rotated"} if n > 1 else set())
        for n in range(1, 9)
    },
    "a colour profile of garbage": (
        lambda: coded(NOISE, "JPEG", icc_profile=b"garbage" * 40), "ok", set(),
    ),
    "a wrong checksum": (wrong_checksum, "corrupt", set()),
    "a cut progressive": (lambda: PROGRESSIVE[: len(PROGRESSIVE) // 2], "truncated", set()),
    "9000 x 9000": (lambda: coded(Image.new("1", (9_000, 9_000)), "PNG"), "too-many-pixels", set()),
    "13000 x 13000": (
        lambda: coded(Image.new("1", (13_000, 13_000)), "PNG"), "too-many-pixels", set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_image_has_its_code(tmp_path: Path, kind: str, full: bool) -> None:
    make, status, notes = KINDS[kind]
    content = make()
    (tmp_path / "a.jpg").write_bytes(content)
    (row,) = probe_shard(tmp_path, ["a.jpg"]).to_pylist()
    assert (row["status"], set(row["notes"])) == (status, notes)
    rng = np.random.default_rng(0)
    count = FULL if full else SAMPLE
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        (tmp_path / name).write_bytes(mutated(rng, content))
    rows = probe_shard(tmp_path, names).to_pylist()  # anything raised fails the test
    assert {row["status"] for row in rows} <= {"ok", *get_args(Code)}
    assert all(row["message"] for row in rows if row["status"] != "ok")


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes changed, and at times some cut off or put in."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if damaged else 0):
        damaged[rng.integers(len(damaged))] = rng.integers(256)
    place, length = rng.integers(len(damaged) + 1), int(rng.integers(9))
    damaged[place : place + int(rng.integers(9))] = rng.bytes(length)
    return bytes(damaged)


def test_a_name_that_is_composed_otherwise_is_told(tmp_path: Path) -> None:
    (tmp_path / "cafe\u0301.jpg").write_bytes(JPEG)
    (row,) = probe_shard(tmp_path, ["caf\u00e9.jpg"]).to_pylist()
    assert row["status"] == "missing"
    assert "NFD" in row["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg").chmod(0)
    assert probe_shard(tmp_path, ["a.jpg"])["status"].to_pylist() == ["unreadable"]
