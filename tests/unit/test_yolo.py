"""YOLO folders: where images and labels lie, what a line says, every bad file by its code."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frontier.data.formats import Part
from frontier.data.formats.yolo import Yolo
from frontier.data.formats.yolo_labels import label_name

NAMES = "names: [cat, dog]\n"


def write(folder: Path, image: str, *rows: str, size: tuple[int, int] = (200, 100)) -> Path:
    """An image and its label file."""
    for name in (image, label_name(image)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / image)
    label = folder / label_name(image)
    label.write_text("".join(f"{row}\n" for row in rows))
    return label


def read(folder: Path, split: str = "train") -> Part:
    """All parts of a split as one; tables as lists of rows."""
    whole = Part(images=[], boxes=[])
    for part in Yolo().read(folder, split):
        whole.classes |= part.classes
        whole.images += part.images.to_pylist()
        whole.boxes += part.boxes.to_pylist()
        whole.problems += part.problems
        whole.refused_images += part.refused_images
        whole.refused_boxes += part.refused_boxes
    return whole


def found_names(folder: Path, split: str = "train") -> list[str]:
    return [image["file_name"] for image in read(folder, split).images]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Two images with two boxes and one, as data.yaml's defaults would have them."""
    write(tmp_path, "images/train/a.png", "0 0.5 0.5 0.5 0.5", "1 0.1 0.2 0.2 0.4")
    write(tmp_path, "images/train/b.png", "1 .25 .25 .5 .5")
    (tmp_path / "data.yaml").write_text(NAMES)
    return tmp_path


def test_boxes_are_pixels_and_ids_as_in_the_file(mine: Path) -> None:
    found = read(mine)
    assert found.problems == []
    assert found.classes == {0: "cat", 1: "dog"}
    rows = [(b["category_id"], b["line"], *(round(b[k], 9) for k in "xywh")) for b in found.boxes]
    assert rows == [(0, 1, 50, 25, 100, 50), (1, 2, 0, 0, 40, 40), (1, 1, 0, 0, 100, 50)]
    image = found.images[0]
    assert (image["width"], image["height"], image["source"]) == (200, 100, "labels/train/a.txt")


@pytest.mark.parametrize(
    ("row", "xywh"),
    [
        ("0 0.1 0.2 0.5 0.2 0.3 0.8", (20, 20, 80, 60)),
        ("0 0 0 1 0 1 1 0 1", (0, 0, 200, 100)),
        ("0.0 5e-1 5e-1 1.0 1.0\r", (0, 0, 200, 100)),
        ("  1\t0.5 0.5   1 1  ", (0, 0, 200, 100)),
        ("0 1.0 0.5 0.5 1", (150, 0, 100, 100)),  # beyond the image is for the rules to say
        ("0 0.5 0.5 -0.5 1", (150, 0, -100, 100)),
    ],
)
def test_what_a_line_says(mine: Path, row: str, xywh: tuple[float, ...]) -> None:
    write(mine, "images/train/a.png", row)
    found = read(mine)
    assert found.problems == []
    assert [found.boxes[0][key] for key in "xywh"] == pytest.approx(xywh)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_sizes_are_those_of_the_upright_image(mine: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    write(mine, "images/train/0.png", "0 0.5 0.5 1 1")
    Image.new("RGB", (60, 40)).save(mine / f"images/train/0.{suffix}", exif=exif)
    if suffix != "png":
        (mine / "images/train/0.png").unlink()
    found = read(mine)
    expected = [0, 0, 40, 60] if orientation > 4 else [0, 0, 60, 40]
    assert [found.boxes[0][key] for key in "xywh"] == expected
    assert [found.images[0]["width"], found.images[0]["height"]] == expected[2:]


LAYOUTS = {
    "by kind": ("images/train/a.png", ""),
    "by split": ("train/images/a.png", ""),
    "folder": ("pictures/images/deep/a.png", "train: pictures/images\n"),
    "trailing slash": ("images/x/a.png", "train: ./images/x/\n"),
    "folders": ("images/x/a.png", "train: [images/x, images/y]\n"),
    "labels beside": ("photos/a.png", "train: photos\n"),
    "path below": ("sub/images/t/a.png", "path: sub\ntrain: images/t\n"),
    "path elsewhere": ("images/t/a.png", "path: /home/someone/data\ntrain: images/t\n"),
    "path spelt out": (
        "images/t/a.png",
        "path: /home/someone/data\ntrain: /home/someone/data/images/t\n",
    ),
    "path of another layout": ("images/t/a.png", "path: ../datasets/mine\ntrain: images/t\n"),
    "windows": ("images/t/a.png", "train: images\\t\n"),
    "windows spelt out": (
        "images/t/a.png",
        "path: C:\\data\\mine\ntrain: C:\\data\\mine\\images\\t\n",
    ),
    "here spelt out": ("images/t/a.png", "train: {folder}/images/t\n"),
    "path below spelt out": ("sub/images/t/a.png", "path: {folder}/sub\ntrain: images/t\n"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(tmp_path: Path, kind: str) -> None:
    image, config = LAYOUTS[kind]
    write(tmp_path, image, "0 .5 .5 .5 .5")
    (tmp_path / "images" / "y").mkdir(parents=True, exist_ok=True)
    (tmp_path / "data.yaml").write_text(NAMES + config.replace("{folder}", str(tmp_path)))
    assert Yolo().splits(tmp_path) == ["train"]
    found = read(tmp_path)
    assert (found.problems, [i["file_name"] for i in found.images]) == ([], [image])
    assert len(found.boxes) == 1
    files = [
        file.relative_to(tmp_path).as_posix() for file in Yolo().annotations(tmp_path, "train")
    ]
    assert files == sorted(["data.yaml", label_name(image)])


def test_splits_by_their_names_in_the_file(tmp_path: Path) -> None:
    for split in ("a", "b", "c"):
        write(tmp_path, f"images/{split}/1.png")
    text = "train: images/a\nvalid: images/b\ntest: images/c\n"
    (tmp_path / "data.yaml").write_text(NAMES + text)
    assert Yolo().splits(tmp_path) == ["train", "val", "test"]
    assert found_names(tmp_path, "val") == ["images/b/1.png"]
    (tmp_path / "data.yaml").write_text(NAMES + "train: images/a\nval: images/b\ntest:\n")
    assert Yolo().splits(tmp_path) == ["train", "val"]


def test_folders_alone_make_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path, f"{split}/images/1.png", "0 .5 .5 .1 .1")
    (tmp_path / "mine.yaml").write_text("names: {0: cat, 1: 7}\n")
    (tmp_path / "other.yaml").write_text("key: value\n")
    assert Yolo().splits(tmp_path) == ["train", "val", "test"]
    assert read(tmp_path).classes == {0: "cat", 1: "7"}
    assert found_names(tmp_path, "val") == ["valid/images/1.png"]
    (tmp_path / "other.yaml").write_text("names: [a]\n")  # which of the two?
    assert [p.code for p in read(tmp_path).problems] == ["missing-file"]


def test_a_dataset_without_splits_is_all_train(tmp_path: Path) -> None:
    write(tmp_path, "images/a.png", "0 .5 .5 .1 .1")
    write(tmp_path, "images/deep/b.png", "0 .5 .5 .1 .1")
    assert Yolo().splits(tmp_path) == []  # without a data.yaml it may be of any kind
    (tmp_path / "data.yaml").write_text(NAMES)
    assert Yolo().splits(tmp_path) == ["train"]
    assert Yolo().index(tmp_path) == [tmp_path / "data.yaml"]
    assert (found_names(tmp_path), len(read(tmp_path).boxes)) == (
        ["images/a.png", "images/deep/b.png"],
        2,
    )
    write(tmp_path, "images/val/a.png")  # which of the others are train?
    assert Yolo().splits(tmp_path) == ["val"]


def test_a_list_of_images(mine: Path) -> None:
    (mine / "data.yaml").write_text(f"{NAMES}train: lists/some.txt\n")
    (mine / "lists").mkdir()
    rows = ["../images/train/a.png", "/abs/images/b.png", "./here.png", "\udcff.png"]
    (mine / "lists/some.txt").write_text("\n".join(rows[:3]))
    found = read(mine)
    assert sorted(p.code for p in found.problems) == ["no-labels", "unsafe-path", "unsafe-path"]
    assert [image["file_name"] for image in found.images] == ["lists/here.png"]
    (mine / "some.txt").write_text("./images/train/a.png\nimages/train/gone.png\n")
    (mine / "data.yaml").write_text(f"{NAMES}train: some.txt\n")
    found = read(mine)
    assert [p.code for p in found.problems] == ["no-label-file"]
    assert [(i["file_name"], i["width"]) for i in found.images] == [
        ("images/train/a.png", 200),
        ("images/train/gone.png", 0),  # that it is gone is said by `ingest`, of every format
    ]
    assert mine / "some.txt" in Yolo().annotations(mine, "train")


def test_roboflow_paths_are_read_where_they_were_meant(tmp_path: Path) -> None:
    write(tmp_path, "train/images/a.png", "0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text(f"{NAMES}train: ../train/images\n")
    found = read(tmp_path)
    assert [(p.code, p.severity) for p in found.problems] == [("moved-path", "warning")]
    assert len(found.boxes) == 1


@pytest.mark.parametrize(
    ("listing", "row"),
    [
        ("train.txt", "{folder}/images/train/a.png"),
        ("train.txt", "./images/train/a.png"),
        ("lists/train.txt", "images/train/a.png"),
        ("lists/train.txt", "{folder}/images/train/a.png"),
        ("images/train.txt", "train/a.png"),
        ("images/train.txt", "train\\a.png"),
        ("images/train.txt", "C:\\data\\mine\\images\\train\\a.png"),
    ],
)
def test_rows_of_a_list_are_found_in_the_dataset(mine: Path, listing: str, row: str) -> None:
    (mine / "data.yaml").write_text(f"{NAMES}path: C:\\data\\mine\ntrain: {listing}\n")
    (mine / "lists").mkdir()
    (mine / listing).write_text(row.replace("{folder}", str(mine)))
    found = read(mine)
    assert (found.problems, len(found.boxes)) == ([], 2)
    assert [image["file_name"] for image in found.images] == ["images/train/a.png"]


def test_a_dataset_behind_a_link_may_be_spelt_out_either_way(mine: Path) -> None:
    link = mine.with_name(f"{mine.name}-link")
    link.symlink_to(mine)
    for folder, other in ((mine, link), (link, mine), (link, link)):
        (mine / "data.yaml").write_text(f"{NAMES}train: {other}/images/train\n")
        assert (read(folder).problems, len(read(folder).boxes)) == ([], 3)


@pytest.mark.parametrize("entry", ["../test/images", "images/test", "/nowhere/test", "[a/b, c]"])
@pytest.mark.parametrize("split", ["val", "valid", "test"])
def test_a_split_that_is_nowhere_is_none(mine: Path, split: str, entry: str) -> None:
    (mine / "data.yaml").write_text(f"{NAMES}train: images/train\n{split}: {entry}\n")
    assert Yolo().splits(mine) == ["train"]
    found = read(mine)
    assert [(p.code, p.severity) for p in found.problems] == [("missing-split", "warning")]
    assert len(found.boxes) == 3


@pytest.mark.parametrize("entry", ["../outside", "/etc", "out", "{folder}/../outside"])
def test_a_split_that_lies_outside_is_refused(mine: Path, entry: str) -> None:
    mine.with_name("outside").mkdir(exist_ok=True)
    (mine / "out").symlink_to("/etc")
    entry = entry.replace("{folder}", str(mine))
    (mine / "data.yaml").write_text(f"{NAMES}train: images/train\nval: {entry}\n")
    assert Yolo().splits(mine) == ["train", "val"]
    assert [(p.code, p.severity) for p in read(mine, "val").problems] == [
        ("unsafe-path", "critical")
    ]


@pytest.mark.parametrize(
    "file",
    [
        "annotations/instances_train.json",
        "zhiyuan_objv2_train.json",
        "images/train/a.jpg",
        "Annotations/a.xml",
        "config.yaml",
    ],
)
def test_other_folders_are_not_claimed(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert Yolo().splits(tmp_path) == []
    assert Yolo().splits(tmp_path / "nowhere") == []


def test_images_without_label_files(mine: Path) -> None:
    (mine / "labels/train/b.txt").unlink()
    found = read(mine)
    assert [(p.code, p.where) for p in found.problems] == [("no-label-file", "images/train/b.png")]
    assert (len(found.images), len(found.boxes)) == (2, 2)
    (mine / "labels/train/a.txt").unlink()
    assert [p.code for p in read(mine).problems] == ["no-labels"]


@pytest.mark.parametrize("place", ["images/train", "train/images", "photos"])
def test_label_files_without_image_are_named_and_counted(tmp_path: Path, place: str) -> None:
    write(tmp_path, f"{place}/a.png", "0 .5 .5 .5 .5")
    label = write(tmp_path, f"{place}/deep/b.png", "0 .5 .5 .5 .5")
    below = label.parent.relative_to(tmp_path)
    orphans = [below / "c.txt", below / "d.TXT", below.parent / "b.txt"]
    for path in orphans:
        (tmp_path / path).write_text("0 .5 .5 .5 .5\n\n1 .5 .5 .1 .1\n")
    for name in ("classes.txt", "README.roboflow.txt", "notes.md"):
        (label.parent / name).write_text("no label\n")
    (tmp_path / "data.yaml").write_text(f"{NAMES}train: {place}\n")
    found = read(tmp_path)
    named = [(p.code, p.severity, p.where) for p in found.problems]
    assert sorted(named) == sorted(("orphan-label", "warning", str(path)) for path in orphans)
    assert (len(found.images), len(found.boxes), found.refused_boxes) == (2, 2, 6)
    assert {tmp_path / path for path in orphans} < {*Yolo().annotations(tmp_path, "train")}


def test_suffixes_are_read_in_either_case(mine: Path) -> None:
    (mine / "labels/train/a.txt").rename(mine / "labels/train/a.TXT")
    (mine / "images/train/a.png").rename(mine / "images/train/a.PNG")
    found = read(mine)
    assert (found.problems, len(found.images), len(found.boxes)) == ([], 2, 3)
    assert mine / "labels/train/a.TXT" in Yolo().annotations(mine, "train")


def test_images_of_an_unsupported_kind_are_named_and_counted(mine: Path) -> None:
    for suffix in ("tif", "GIF"):
        Image.new("RGB", (9, 9)).save(mine / f"images/train/c-{suffix}.{suffix}")
        (mine / f"labels/train/c-{suffix}.txt").write_text("0 .5 .5 .5 .5\n0 .5 .5 .1 .1\n")
    found = read(mine)
    named = [p.where for p in found.problems if p.code == "unsupported-image"]
    assert sorted(named) == ["images/train/c-GIF.GIF", "images/train/c-tif.tif"]
    assert {p.severity for p in found.problems} == {"warning"}
    assert (len(found.images), len(found.boxes), found.refused_boxes) == (4, 3, 4)


@pytest.mark.parametrize("listing", ["", "train: all.txt\n"])
def test_images_that_share_a_label_file_are_named(mine: Path, listing: str) -> None:
    for name in ("a.b.png", "a.jpg"):
        write(mine, f"images/train/{name}", "0 .5 .5 .5 .5")
    names = ["a.jpg", "a.b.png", "a.png", "b.png"]
    (mine / "all.txt").write_text("".join(f"images/train/{name}\n" for name in names))
    (mine / "data.yaml").write_text(f"{NAMES}nc: 2\n{listing}")
    found = read(mine)
    named = [(p.code, p.severity, p.where) for p in found.problems]
    assert named == [("shared-label", "warning", "images/train/a.png")]
    assert len(found.boxes) == 1 + 1 + 1 + 1


def test_folders_that_are_not_entered_are_named(mine: Path) -> None:
    (mine / "images/train/more").symlink_to(mine / "images/train")
    (mine / "images/train/out").symlink_to("/etc")
    found = read(mine)
    assert [(p.code, p.where) for p in found.problems] == [
        ("unsafe-path", "images/train/more"),
        ("unsafe-path", "images/train/out"),
    ]
    assert len(found.images) == 2


BAD_LINES = {
    "four numbers": ("0 .5 .5 .5", "missing-field"),
    "a class only": ("1", "missing-field"),
    "six numbers": ("0 .5 .5 .5 .5 .9", "wrong-type"),
    "half a point": ("0 .1 .1 .2 .2 .3 .3 .4", "wrong-type"),
    "a word": ("0 .5 .5 .5 wide", "wrong-type"),
    "a class name": ("cat .5 .5 .5 .5", "wrong-type"),
    "half a class": ("0.5 .5 .5 .5 .5", "wrong-type"),
    "a negative class": ("-1 .5 .5 .5 .5", "wrong-type"),
    "commas": ("0,.5,.5,.5,.5", "missing-field"),
    "NaN": ("0 nan .5 .5 .5", "not-finite"),
    "infinity": ("0 .5 .5 inf .5", "not-finite"),
    "1e999": ("0 .5 .5 1e999 .5", "not-finite"),
    "an endless class": ("1e300 .5 .5 .5 .5", "not-finite"),
    "pixels": ("0 120 50 40 30", "not-normalised"),
    "negative pixels": ("0 -120 .5 .4 .3", "not-normalised"),
    "pixels of an outline": ("0 1 1 90 1 90 50", "not-normalised"),
    "markup": ("<annotation>", "missing-field"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_each_bad_line_has_its_code(mine: Path, kind: str) -> None:
    row, code = BAD_LINES[kind]
    write(mine, "images/train/a.png", row, "0 .5 .5 .5 .5", "", row)
    found = read(mine)
    assert [(p.code, p.severity, p.where) for p in found.problems] == [
        (code, "critical", f"labels/train/a.txt:{line}") for line in (1, 4)
    ]
    assert [box["line"] for box in found.boxes] == [2, 1]  # the sound ones are kept
    assert all(len(str(p)) < 300 for p in found.problems)


def swap(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


BAD_FILES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "NUL": (lambda p: p.write_bytes(b"0 .5 .5 .5 .5\n\0\0"), ["not-text"]),
    "an image": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n\0"), ["not-text"]),
    "not UTF-8": (lambda p: p.write_bytes(b"0 .5 .5 .5 .5\n0 .5 \xff\n"), ["not-text"]),
    "UTF-16": (lambda p: p.write_text("0 .5 .5 .5 .5", "utf-16"), ["not-text"]),
    "an endless line": (lambda p: p.write_bytes(b"0 " * (1 << 20)), ["too-large"]),
    "a link out": (lambda p: swap(p, lambda q: q.symlink_to("/etc/passwd")), ["unsafe-path"]),
    "a device": (lambda p: swap(p, lambda q: q.symlink_to("/dev/zero")), ["unsafe-path"]),
    "a pipe": (lambda p: swap(p, os.mkfifo), ["no-label-file"]),
    "a folder": (lambda p: swap(p, Path.mkdir), ["no-label-file"]),
    "a mark of byte order": (lambda p: p.write_text("0 .5 .5 .5 .5", "utf-8-sig"), []),
    "nothing": (lambda p: p.write_bytes(b""), []),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_each_bad_file_has_its_code(mine: Path, kind: str) -> None:
    damage, expected = BAD_FILES[kind]
    damage(mine / "labels/train/a.txt")
    found = read(mine)
    assert [p.code for p in found.problems] == expected
    assert len(found.images) == 2
    assert found.boxes[-1]["image_id"] == 2


BAD_IMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda p: p.write_bytes(b""),
    "no image": lambda p: p.write_text("hello"),
    "another format": lambda p: p.write_bytes(b"GIF89a\1\0\1\0\0\0\0;"),
    "a torn header": lambda p: p.write_bytes(p.read_bytes()[:20]),
    "a pipe": lambda p: swap(p, os.mkfifo),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_boxes_of_unknown_size_are_left_out_and_counted(mine: Path, kind: str) -> None:
    BAD_IMAGES[kind](mine / "images/train/a.png")
    found = read(mine)
    (problem,) = found.problems
    assert (problem.code, problem.severity) == ("unreadable-size", "warning")
    assert problem.message.startswith("2 boxes")
    assert [(i["width"], i["height"]) for i in found.images] == [(0, 0), (200, 100)]
    assert len(found.boxes) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: swap(p, lambda q: q.symlink_to("/etc/hostname")),
        lambda p: p.rename(p.with_name("a\udcff.png")),
    ],
)
def test_images_that_cannot_be_named_are_refused(
    mine: Path, damage: Callable[[Path], object]
) -> None:
    damage(mine / "images/train/a.png")
    found = read(mine)
    assert [p.code for p in found.problems] in (["unsafe-path"], ["not-text"])
    assert [image["file_name"] for image in found.images] == ["images/train/b.png"]
    assert (found.refused_images, found.refused_boxes) == (1, 2)


BAD_CONFIGS: dict[str, tuple[Any, list[str]]] = {
    "empty": ("", ["broken-yaml"]),
    "no YAML": ("names: [a, b", ["broken-yaml"]),
    "a list": ("- names", ["broken-yaml"]),
    "not text": (b"names: [\xff\xfe]", ["broken-yaml"]),
    "a tag": ("names: !!python/object/apply:os.system [id]", ["broken-yaml"]),
    "a date that is none": ("names: [a]\nx: 2024-99-99", ["broken-yaml"]),
    "deep": ("names: " + "[" * 20_000, ["broken-yaml"]),
    "large": ("names: [a]\n" + "#" * (1 << 20), ["too-large"]),
    "no names": ("train: images/train", ["missing-field"]),
    "no name at all": ("names: []", ["missing-field"]),
    "a number": ("names: 80", ["wrong-type"]),
    "names of two kinds": ("names: [a, [b], null, true, '']", ["wrong-type"] * 4),
    "names by name": ("names: {cat: 0, dog: 1}", ["wrong-type"] * 2),
    "aliases": ("a: &a [x]\nb: &b [*a, *a]\nnames: [*b, *b]", ["wrong-type"] * 2),
    "endless hexadecimals": (f"names: [0x{'f' * 9000}, a]", ["wrong-type"]),
    "endless keys": (f"names: {{{'9' * 50}: a}}", ["wrong-type"]),
    "keypoints": (NAMES + "kpt_shape: [17, 3]", ["wrong-type"]),
    "another count": (NAMES + "nc: 5", ["class-conflict"]),
    "a count in words": (NAMES + "nc: two", ["class-conflict"]),
    "an entry of another kind": (NAMES + "train: {a: b}", ["wrong-type"]),
    "a path of another kind": (NAMES + "path: [1]", ["wrong-type"]),
    "upwards": (NAMES + "train: ../elsewhere", ["unsafe-path"]),
    "absolute": (NAMES + "train: /etc", ["unsafe-path"]),
    "a path that leads out": (NAMES + "path: ..\ntrain: images/train", ["unsafe-path"]),
    "an absolute path": (NAMES + "path: /etc\ntrain: images/train", ["unsafe-path"]),
    "a NUL": (NAMES + 'train: "a\\0b"', ["unsafe-path"]),
    "a long name": (NAMES + f"train: {'x' * 300}\npath: {'y' * 300}", ["missing-file"]),
    "nowhere": (NAMES + "train: images/gone", ["missing-file"]),
    "one of two": (NAMES + "train: [images/train, images/gone]", ["missing-file"]),
    "a device": (NAMES + "train: images/zero", ["unsafe-path"]),
}


@pytest.mark.parametrize("kind", BAD_CONFIGS)
def test_each_bad_configuration_has_its_code(mine: Path, kind: str) -> None:
    content, expected = BAD_CONFIGS[kind]
    (mine / "images/zero").symlink_to("/dev/zero")
    data = content if isinstance(content, bytes) else content.encode()
    (mine / "data.yaml").write_bytes(data)
    Yolo().splits(mine)
    Yolo().annotations(mine, "train")
    found = read(mine)
    assert [p.code for p in found.problems] == expected
    assert all(p.severity == "critical" and len(str(p)) < 600 for p in found.problems)


def test_no_damage_goes_unnamed(mine: Path) -> None:
    rng = random.Random(0)
    files = {name: (mine / name).read_bytes() for name in ("data.yaml", "labels/train/a.txt")}
    files["data.yaml"] += b"path: /x\ntrain: images/train\nval:\n"
    spikes = [
        b"[",
        b"{",
        b"]",
        b": ",
        b"- ",
        b"\n",
        b"!!x ",
        b"&a ",
        b"*a",
        b"\xff",
        b"\0",
        b"../",
        b"",
    ]
    for _ in range(60):
        for name, sound in files.items():
            start = rng.randrange(len(sound))
            (mine / name).write_bytes(sound[:start] + rng.choice(spikes) + sound[start + 1 :])
        for split in Yolo().splits(mine):  # anything raised fails the test
            found = read(mine, split)
            assert found.problems or split == "val" or len(found.images) == 2


@pytest.mark.parametrize("config", [NAMES, NAMES + "train: images/train\n"])
def test_labels_beside_the_images(tmp_path: Path, config: str) -> None:
    for stem in ("a", "b", "gone"):
        label = write(tmp_path, f"images/train/{stem}.png", "0 .5 .5 .5 .5")
        label.rename(tmp_path / "images" / "train" / f"{stem}.txt")
    (tmp_path / "labels" / "train").rmdir()
    (tmp_path / "labels").rmdir()
    (tmp_path / "images" / "train" / "gone.png").unlink()
    (tmp_path / "images" / "train" / "classes.txt").write_text("cat")
    (tmp_path / "data.yaml").write_text(config)
    found = read(tmp_path)
    assert [image["source"] for image in found.images] == [
        "images/train/a.txt",
        "images/train/b.txt",
    ]
    assert (len(found.boxes), found.refused_boxes) == (2, 1)
    assert [problem.code for problem in found.problems] == ["orphan-label"]
    files = [file.name for file in Yolo().annotations(tmp_path, "train")]
    assert files == ["data.yaml", "a.txt", "b.txt", "gone.txt"]


def test_labels_beside_unsplit_images(tmp_path: Path) -> None:
    write(tmp_path, "images/a.png", "0 .5 .5 .5 .5").rename(tmp_path / "images" / "a.txt")
    (tmp_path / "labels").rmdir()
    (tmp_path / "data.yaml").write_text(NAMES)
    assert Yolo().splits(tmp_path) == ["train"]
    assert len(read(tmp_path).boxes) == 1
