"""Twenty kinds of bad image (issue 4): each ends in a code, or in a documented picture."""

import io
import os
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontier.data.generated.synthetic import MAIN, scene
from frontier.data.intake.probing import PROBES, perceptual_hash, probe, probe_shard
from frontier.images import ImageError, decode_image

MUTATIONS = 20  # of each kind
PEAK_BYTES = 512 * 2**20


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(PHOTO, "JPEG", exif=exif.tobytes())


def png(width: int, height: int, depth: int, colour: int, samples: int) -> bytes:
    """A sound PNG of nothing but zeros."""
    rows = zlib.compressobj(9)
    row = bytes(1 + (width * depth * samples + 7) // 8)
    data = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


PHOTO = Image.fromarray(np.ascontiguousarray(scene((0, 0, 0), MAIN).image_HWC)).resize((60, 40))
FRAMES = [PHOTO.rotate(90 * i) for i in range(3)]
JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")
PROGRESSIVE = encoded(PHOTO, "JPEG", progressive=True)
BAD_CRC = PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:]
BITS_16 = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27)

# file name, content, status, notes
KINDS: dict[str, tuple[str, bytes, str, list[str]]] = {
    "0 bytes": ("a.jpg", b"", "empty", []),
    "1 byte": ("a.jpg", b"\xff", "not-an-image", []),
    "cut at 10 %": ("a.jpg", JPEG[: len(JPEG) // 10], "corrupt", []),
    "cut at 50 %": ("a.jpg", JPEG[: len(JPEG) // 2], "truncated", []),
    "cut at 99 %": ("a.jpg", JPEG[: len(JPEG) * 99 // 100], "truncated", []),
    "wrong extension": ("a.jpg", PNG, "ok", ["wrong-extension"]),
    "text": ("a.jpg", b"a cat on a mat", "not-an-image", []),
    "HTML error page": ("a.jpg", b"<!doctype html><h1>404</h1>", "not-an-image", []),
    "CMYK": ("a.jpg", encoded(PHOTO.convert("CMYK"), "JPEG"), "ok", ["cmyk"]),
    "16 bits, grey": ("a.png", encoded(BITS_16, "PNG"), "ok", ["sixteen-bit"]),
    "16 bits, RGB": ("a.png", png(60, 40, 16, 2, 3), "ok", ["sixteen-bit"]),
    "palette with alpha": (
        "a.png",
        encoded(PHOTO.quantize(16), "PNG", transparency=bytes(range(16))),
        "ok",
        ["alpha"],
    ),
    "1 px": ("a.png", png(1, 1, 8, 2, 3), "ok", []),
    "20000 x 1": ("a.png", png(20000, 1, 8, 2, 3), "ok", []),
    "animated GIF": (
        "a.gif",
        encoded(PHOTO, "GIF", save_all=True, append_images=FRAMES),
        "not-an-image",
        [],
    ),
    "animated WebP": (
        "a.webp",
        encoded(PHOTO, "WEBP", save_all=True, append_images=FRAMES),
        "ok",
        ["animated"],
    ),
    "EXIF rotation": ("a.jpg", rotated(6), "ok", ["exif-rotated"]),
    "ICC garbage": ("a.jpg", encoded(PHOTO, "JPEG", icc_profile=b"\x07" * 999), "ok", []),
    "CRC error": ("a.png", BAD_CRC, "corrupt", []),
    "progressive, cut": ("a.jpg", PROGRESSIVE[: len(PROGRESSIVE) // 2], "truncated", []),
    "9000 x 9000": ("a.png", png(9000, 9000, 1, 0, 1), "too-many-pixels", []),
    "13000 x 13000": ("a.png", png(13000, 13000, 1, 0, 1), "too-many-pixels", []),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_outcome(kind: str, tmp_path: Path) -> None:
    name, content, status, notes = KINDS[kind]
    (tmp_path / name).write_bytes(content)
    found = probe(tmp_path, name)
    assert (found.status, found.notes or []) == (status, notes), found.message
    assert len(found.sha256) == 64
    usable = status == "ok"
    assert (found.width > 0) == (found.phash != "") == (found.message == "") == usable


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_escapes(kind: str, tmp_path: Path) -> None:
    name, content, _, _ = KINDS[kind]
    rng = np.random.default_rng([*KINDS].index(kind))
    names = []
    for number in range(MUTATIONS):
        names.append(f"{number}-{name}")
        (tmp_path / names[-1]).write_bytes(mutated(rng, content))
    rows = probe_shard(tmp_path, names).to_pylist()
    assert len(rows) == MUTATIONS
    for row in rows:
        assert (row["status"] == "ok") == (row["width"] > 0) == (row["message"] == "")


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes altered, most of them in the header, and now and then cut or doubled."""
    damaged = bytearray(content or b"\0")
    for _ in range(rng.integers(1, 12)):
        reach = len(damaged) if rng.uniform() < 0.5 else min(len(damaged), 200)
        damaged[rng.integers(reach)] = rng.integers(256)
    cut = int(rng.integers(len(damaged)))
    if rng.uniform() < 0.2:
        del damaged[cut:]
    elif rng.uniform() < 0.2:
        damaged[cut:cut] = damaged[cut : cut + 50]
    return bytes(damaged)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photo_is_upright(orientation: int, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(rotated(orientation))
    found = probe(tmp_path, "a.jpg")
    assert (found.width, found.height) == ((60, 40) if orientation <= 4 else (40, 60))
    assert ("exif-rotated" in found.notes) == (orientation > 1)


def test_what_is_no_readable_file_has_a_code(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "out.jpg").symlink_to("/etc/passwd")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**40)
    unsafe = ["out.jpg", "zero.jpg", "../a.jpg", "..\\a.jpg", "/etc/passwd"]
    unsafe += ["", "a\0.jpg", "half \ud800.jpg", "\udcff.jpg"]
    expected = {
        "gone.jpg": "missing",
        "pipe.jpg": "unreadable",
        "folder.jpg": "unreadable",
        "loop.jpg": "unreadable",
        "huge.jpg": "too-large",
        "x" * 5000 + ".jpg": "unreadable",
        **dict.fromkeys(unsafe, "unsafe-path"),
    }
    table = probe_shard(tmp_path, [*expected])
    assert table["status"].to_pylist() == [*expected.values()]
    assert all(table["message"].to_pylist())


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "a.jpg").chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything
    try:
        assert probe(tmp_path, "a.jpg").status == "unreadable"
    finally:
        os.seteuid(user)


def test_a_name_composed_otherwise_is_pointed_out(tmp_path: Path) -> None:
    stored, given = (unicodedata.normalize(form, "Übung.jpg") for form in ("NFD", "NFC"))
    (tmp_path / stored).write_bytes(JPEG)
    assert probe(tmp_path, stored).status == "ok"
    found = probe(tmp_path, given)
    assert found.status == "missing"
    assert "Unicode form NFD" in found.message


def test_a_shard_is_a_table_in_the_order_of_its_names(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(png(10 + i, 20, 8, 2, 3))
    names = ["3.png", "0.png", "4.png", "gone.png"]
    table = probe_shard(tmp_path, names)
    assert table.schema == PROBES
    assert table["width"].to_pylist() == [13, 10, 14, 0]
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "missing"]
    assert probe_shard(tmp_path, []).schema == PROBES


BOMBS = {
    "13000 x 13000": png(13000, 13000, 1, 0, 1),
    "9000 x 9000": png(9000, 9000, 1, 0, 1),
    "WebP of 16384 x 16384": b"RIFF@\0\0\0WEBPVP8L4\0\0\0\x2f\xff\xff\xff\x0f" + bytes(47),
    "16 bits, RGBA, all allowed": png(5000, 5000, 16, 6, 4),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_is_bounded(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BOMBS[bomb])
    program = (
        "import sys, pathlib; from frontier.data.intake.probing import probe;"
        "print(probe(pathlib.Path(sys.argv[1]), 'a.png').status);"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak_kb = next(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM"))
    assert peak_kb * 1024 < PEAK_BYTES
    assert told.splitlines()[0] == ("ok" if "allowed" in bomb else "too-many-pixels")


def distance(a: Image.Image, b: Image.Image) -> int:
    first, second = (int(perceptual_hash(image.convert("L")), 16) for image in (a, b))
    return (first ^ second).bit_count()


def test_the_hash_knows_a_picture_again() -> None:
    scenes = [
        Image.fromarray(np.ascontiguousarray(scene((1, 0, i), MAIN).image_HWC)) for i in range(12)
    ]
    for number, image in enumerate(scenes):
        again = Image.open(io.BytesIO(encoded(image, "JPEG", quality=60)))
        assert distance(image, again) <= 12
        half = image.resize((image.width // 2, image.height // 2))
        assert distance(image, half) <= 12
        assert all(distance(image, other) > 40 for other in scenes[:number])


def test_blank_pictures_have_one_hash() -> None:
    blank = [Image.new("RGB", (50, 30 + i), (i, 2 * i, 3 * i)) for i in range(0, 80, 7)]
    assert len({perceptual_hash(image.convert("L")) for image in blank}) == 1


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_sketch_tells_as_much_of_a_damaged_photo(progressive: bool, subsampling: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(np.ascontiguousarray(scene((3, 0, 0), MAIN).image_HWC))
    whole = encoded(image, "JPEG", progressive=progressive, subsampling=subsampling)
    damaged = [whole[:length] for length in range(0, len(whole), len(whole) // 40)]
    damaged += [whole[:-length] for length in range(1, 12)]
    damaged += [mutated(rng, whole) for _ in range(40)]
    for content in damaged:
        assert verdict(content, sketch=16) == verdict(content, sketch=0)


def verdict(content: bytes, sketch: int) -> str:
    try:
        return f"{decode_image(content, sketch=sketch).size}"
    except ImageError as error:
        return error.code


@pytest.mark.parametrize(("orientation", "upright"), [(1, (400, 300)), (6, (300, 400))])
def test_a_sketch_knows_the_size_of_the_whole(orientation: int, upright: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.new("RGB", (400, 300)), "JPEG", exif=exif.tobytes())
    decoded = decode_image(content, sketch=100)
    assert (decoded.size, decoded.image.mode) == (upright, "L")
    assert sorted(decoded.image.size) == [150, 200]
    assert decode_image(content).image.size == upright
