"""Pascal VOC folders: every box as a slower reading finds it, every bad file by its code."""

import os
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frontier.data.formats import Part
from frontier.data.formats.reading import PART_IMAGES
from frontier.data.formats.voc import Voc
from frontier.data.formats.voc_plain import plain_sheet

SOUND = """<annotation>
  <folder>VOC2007</folder>
  <filename>{stem}.jpg</filename>
  <size><width>500</width><height>375</height><depth>3</depth></size>
  {objects}
</annotation>
"""
OBJECT = """<object>
    <name>{name}</name>
    <pose>Left</pose>
    <difficult>{difficult}</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
  </object>"""


def thing(*corners: float, name: str = "dog", difficult: int = 0) -> str:
    return OBJECT.format(*corners, name=name, difficult=difficult)


def sheet(stem: str, *things: str) -> str:
    return SOUND.format(stem=stem, objects="".join(things))


def write(kit: Path, stem: str, content: str | bytes) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (kit / folder).mkdir(parents=True, exist_ok=True)
    (kit / "JPEGImages" / f"{stem}.jpg").touch()
    path = kit / "Annotations" / f"{stem}.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def listed(kit: Path, split: str, *rows: str) -> None:
    (kit / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{row}\n" for row in rows))


def read(folder: Path, split: str = "train") -> Part:
    """All parts of a split as one; tables as lists of rows."""
    whole = Part(images=[], boxes=[])
    for part in Voc().read(folder, split):
        whole.classes |= part.classes
        whole.images += part.images.to_pylist()
        whole.boxes += part.boxes.to_pylist()
        whole.problems += part.problems
        whole.refused_images += part.refused_images
    return whole


def codes(folder: Path) -> list[str]:
    return [problem.code for problem in read(folder).problems]


def slow_reading(path: Path) -> list[tuple[Any, ...]]:
    """Name, left, top, width, height, difficult, by the standard library's tree."""
    found = []
    for element in ET.parse(path).getroot().findall("object"):
        left, top, right, bottom = (
            float(str(element.findtext(f"bndbox/{key}")))
            for key in ("xmin", "ymin", "xmax", "ymax")
        )
        sides = (left - 1, top - 1, right - left + 1, bottom - top + 1)
        found.append((element.findtext("name"), *sides, element.findtext("difficult") == "1"))
    return found


def test_boxes_are_those_of_a_slower_reading(tmp_path: Path) -> None:
    paths = []
    for i in range(12):
        things = [
            thing(1 + j, 2.5 * i + 1, 80 + 7 * j, 200, name="abc"[(i * j) % 3], difficult=j % 2)
            for j in range(i)
        ]
        paths.append(write(tmp_path, f"{i:06d}", sheet(f"{i:06d}", *things)))
    found = read(tmp_path)
    assert found.problems == []
    assert [image["file_name"] for image in found.images] == [
        f"JPEGImages/{path.stem}.jpg" for path in paths
    ]
    assert {(image["width"], image["height"]) for image in found.images} == {(500, 375)}
    for image, path in zip(found.images, paths, strict=True):
        own = [box for box in found.boxes if box["image_id"] == image["image_id"]]
        rows = [
            (found.classes[b["category_id"]], *(b[k] for k in "xywh"), b["is_crowd"]) for b in own
        ]
        assert rows == slow_reading(path)
        lines = (tmp_path / image["source"]).read_text().splitlines()
        assert all("<object>" in lines[box["line"] - 1] for box in own)


def test_a_box_over_the_whole_image_starts_at_zero(tmp_path: Path) -> None:
    write(tmp_path, "a", sheet("a", thing(1, 1, 500, 375)))
    (box,) = read(tmp_path).boxes
    assert [box[key] for key in "xywh"] == [0, 0, 500, 375]


@pytest.mark.parametrize("place", ["", "VOC2007", "VOCdevkit/VOC2012"])
def test_kits_are_found_one_level_down(tmp_path: Path, place: str) -> None:
    kit = tmp_path / place
    for stem in "abcd":
        write(kit, stem, sheet(stem))
    listed(kit, "train", "a 1", "c -1", "")
    listed(kit, "val", "b")
    listed(kit, "trainval", "a", "b", "c", "d")
    assert Voc().splits(tmp_path) == ["train", "val"]
    names = [Path(image["file_name"]) for image in read(tmp_path).images]
    assert [name.stem for name in names] == ["a", "c"]
    root = Voc().image_root(tmp_path)
    assert all((root / name).is_file() for name in names)
    files = Voc().annotations(tmp_path, "train")
    assert [file.name for file in files] == ["a.xml", "c.xml", "train.txt"]


@pytest.mark.parametrize(
    ("lists", "splits", "train"),
    [
        ([], ["train"], 3),
        (["trainval"], ["train"], 2),
        (["trainval", "test"], ["train", "test"], 2),
        (["test"], ["test"], 0),
    ],
)
def test_lists_make_the_splits(
    tmp_path: Path, lists: list[str], splits: list[str], train: int
) -> None:
    for stem in "abc":
        write(tmp_path, stem, sheet(stem))
    for name in lists:
        listed(tmp_path, name, "a", "b")
    assert Voc().splits(tmp_path) == splits
    assert len(read(tmp_path).images) == train


def test_years_are_one_dataset(tmp_path: Path) -> None:
    write(tmp_path / "VOC2007", "a", sheet("a", thing(1, 1, 2, 2, name="cat")))
    write(tmp_path / "VOC2012", "b", sheet("b", thing(1, 1, 2, 2), thing(1, 1, 3, 3, name="cat")))
    found = read(tmp_path)
    assert [image["image_id"] for image in found.images] == [1, 2]
    names = [(box["image_id"], found.classes[box["category_id"]]) for box in found.boxes]
    assert names == [(1, "cat"), (2, "dog"), (2, "cat")]


@pytest.mark.parametrize(
    "file",
    [
        "annotations/instances_train.json",
        "zhiyuan_objv2_train.json",
        "images/a.jpg",
        "labels/train/a.txt",
        "Annotations/readme.txt",
        "Annotations",
    ],
)
def test_other_folders_are_not_claimed(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert Voc().splits(tmp_path) == []
    assert Voc().splits(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("given", "images", "used"),
    [
        ("other.jpg", ["a.jpg", "other.jpg"], None),
        ("gone.jpg", ["a.JPG"], "a.JPG"),
        (r"C:\photos\gone.jpg", ["a.png"], "a.png"),
        ("../../../etc/passwd", ["a.jpeg"], "a.jpeg"),
        ("/etc/passwd", ["a.jpeg"], "a.jpeg"),
        ("x" * 300, ["a.bmp"], "a.bmp"),
        ("", ["a.webp"], "a.webp"),
        ("gone.jpg", [], None),
    ],
)
def test_images_are_found_by_name_or_stem(
    tmp_path: Path, given: str, images: list[str], used: str | None
) -> None:
    write(tmp_path, "a", sheet("a").replace("a.jpg", given))
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    for name in images:
        (tmp_path / "JPEGImages" / name).touch()
    found = read(tmp_path)
    (image,) = found.images
    assert image["file_name"] == f"JPEGImages/{used or given}"
    assert [p.code for p in found.problems] == (["file-name"] if used else [])
    assert all(p.severity == "warning" and len(str(p)) < 500 for p in found.problems)


def test_a_name_that_leads_outside_is_left_to_be_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", sheet("a").replace("a.jpg", "../../secret.jpg"))
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    (tmp_path.parent / "secret.jpg").touch()
    assert read(tmp_path).images[0]["file_name"] == "JPEGImages/../../secret.jpg"


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "gb18030", "Shift_JIS", "euc-kr", "big5"])
def test_wide_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    name = {"Shift_JIS": "いぬ", "euc-kr": "개"}.get(encoding, "犬")
    head = f"<?xml version='1.0' encoding='{encoding}'?>\n"
    text = head + sheet("a", thing(1, 1, 9, 9, name=name), "<!--" + "x" * (1 << 20) + name + "-->")
    write(tmp_path, "a", text.encode(encoding))
    found = read(tmp_path)
    assert (found.problems, found.classes) == ([], {0: name})
    assert [box["line"] for box in found.boxes] == [6]
    write(tmp_path, "a", ("\n" + text).encode(encoding))  # nothing may stand before
    assert codes(tmp_path)[0] == "broken-xml"


def test_one_box_at_zero_tells_how_all_splits_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a", sheet("a", thing(10, 20, 30, 50)))
    write(tmp_path, "b", sheet("b", thing(0, 5, 500, 375)))
    listed(tmp_path, "train", "a")
    listed(tmp_path, "val", "b")
    for split, sides in (("train", [10, 20, 20, 30]), ("val", [0, 5, 500, 370])):
        assert [read(tmp_path, split).boxes[0][key] for key in "xywh"] == sides
    (problem,) = read(tmp_path).problems
    assert problem[:3] == ("zero-based", "warning", "Annotations/b.xml")
    assert read(tmp_path, "val").problems == []


@pytest.mark.parametrize("box", [thing(-1, 1, 9, 9), thing(1, 10, 9, 9), "<xmin>0</xmin>"])
def test_what_does_not_begin_at_zero(tmp_path: Path, box: str) -> None:
    part = SQUARE.replace(
        "<xmin>1</xmin><ymin>1</ymin><xmax>9", "<xmin>0</xmin><ymin>0</ymin><xmax>9"
    )
    assert "<xmin>0<" in part
    write(tmp_path, "a", sheet("a", part, box))
    found = read(tmp_path)
    assert (found.boxes[0]["x"], found.problems) == (0, [])


SQUARE = thing(1, 1, 2, 2)
BOMB = '<!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;&x;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": (b"", ["broken-xml"]),
    "NULs": (b"\0" * 1000, ["broken-xml"]),
    "an image": (b"\x89PNG\r\n\x1a\n", ["broken-xml"]),
    "cut off": (sheet("a", thing(1, 1, 2, 2))[:-20], ["broken-xml"]),
    "latin-1": (sheet("a", thing(1, 1, 2, 2, name="caf\u00e9")).encode("latin-1"), ["broken-xml"]),
    "unknown encoding": (b'<?xml version="1.0" encoding="klingon"?><a/>', ["broken-xml"]),
    "wide encoding": (b'<?xml version="1.0" encoding="johab"?><a/>', ["broken-xml"]),
    "not in its encoding": (
        b'<?xml version="1.0" encoding="gb2312"?><annotation>\xff</annotation>',
        ["broken-xml"],
    ),
    "a million deep": (b"<annotation>" + b"<a>" * 1_000_000, ["broken-xml"]),
    "objects in objects": (sheet("a", "<object>" * 9 + "</object>" * 9), ["missing-field"]),
    "16 MiB": (b"<annotation>" + b" " * (16 << 20) + b"</annotation>", ["too-large"]),
    "entities": (BOMB + sheet("a", thing(1, 1, 2, 2, name="&y;")), ["unsafe-xml"]),
    "external entity": (OUTSIDE + sheet("a", thing(1, 1, 2, 2, name="&x;")), ["unsafe-xml"]),
    "external DTD": ('<!DOCTYPE a SYSTEM "http://x.org/a.dtd">' + sheet("a"), ["unsafe-xml"]),
    "another root": ("<html>" + sheet("a", thing(1, 1, 2, 2)) + "</html>", ["wrong-type"]),
    "empty name": (sheet("a", thing(1, 1, 2, 2, name="")), ["wrong-type"]),
    "blank name": (sheet("a", thing(1, 1, 2, 2, name="  ")), ["wrong-type"]),
    "empty object": (sheet("a", "<object/>"), ["missing-field"]),
    "no ymax": (sheet("a", SQUARE.replace("ymax", "bottom")), ["missing-field"]),
    "a word": (sheet("a", SQUARE.replace("<ymax>2", "<ymax>two")), ["wrong-type"]),
    "no number": (sheet("a", SQUARE.replace("<ymax>2", "<ymax>")), ["wrong-type"]),
    "NaN": (sheet("a", thing(1, 1, float("nan"), 2)), ["not-finite"]),
    "1e999": (sheet("a", SQUARE.replace("<xmin>1", "<xmin>1e999", 1)), ["not-finite"]),
    "5000 digits": (
        sheet("a", SQUARE.replace("<xmin>1", f"<xmin>{'9' * 5000}", 1)),
        ["not-finite"],
    ),
    "difficult 7": (sheet("a", thing(1, 1, 2, 2, difficult=7)), ["wrong-type"]),
    "two names": (sheet("a", SQUARE.replace("<pose>", "<name>cat</name><pose>")), ["wrong-type"]),
    "several": (
        sheet("a", "<object/>", thing(0, 0, 1e300, 1, name="")),
        ["missing-field", "wrong-type", "not-finite"],
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_each_bad_file_has_its_code(tmp_path: Path, kind: str) -> None:
    content, expected = BAD[kind]
    write(tmp_path, "a", content)
    write(tmp_path, "b", sheet("b", thing(1, 1, 2, 2)))
    found = read(tmp_path)
    critical = [p for p in found.problems if p.severity == "critical"]
    assert [p.code for p in critical] == expected
    assert all(p.where.startswith("Annotations/a.xml") for p in critical)
    assert all(len(str(p)) < 400 for p in critical)
    assert found.images[-1]["file_name"] == "JPEGImages/b.jpg"  # one bad file hides no other
    assert len([box for box in found.boxes if box["image_id"] == 2]) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("", ["missing-size", "missing-size"]),
        ("<size><width>5</width></size>", ["missing-size"]),
        ("<size><width>0</width><height>-3</height></size>", ["wrong-size", "wrong-size"]),
        ("<size><width>5.5</width><height>1e3</height></size>", ["wrong-size", "wrong-size"]),
        (f"<size><width>{'9' * 300}</width><height>3</height></size>", ["wrong-size"]),
        (f"<size><width>{'0' * 19}1{'9' * 30}</width><height>3</height></size>", ["wrong-size"]),
    ],
)
def test_a_size_that_says_nothing_is_a_warning(
    tmp_path: Path, size: str, expected: list[str]
) -> None:
    text = sheet("a", thing(1, 1, 2, 2))
    start, end = text.index("<size>"), text.index("</size>") + len("</size>")
    write(tmp_path, "a", text[:start] + size + text[end:])
    found = read(tmp_path)
    assert [(p.code, p.severity) for p in found.problems] == [(c, "warning") for c in expected]
    assert 0 in (found.images[0]["width"], found.images[0]["height"])
    assert len(found.boxes) == 1


def test_what_stood_before_a_break_is_kept(tmp_path: Path) -> None:
    write(tmp_path, "a", sheet("a", thing(1, 1, 2, 2), thing(3, 3, 4, 4))[:-60])
    found = read(tmp_path)
    assert (len(found.images), len(found.boxes), codes(tmp_path)) == (1, 1, ["broken-xml"])


def test_a_box_inside_out_is_left_to_the_rules(tmp_path: Path) -> None:
    write(tmp_path, "a", sheet("a", thing(20, 5, 10, 9)))
    found = read(tmp_path)
    assert (found.boxes[0]["w"], found.problems) == (-9, [])


def swap(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    ("damage", "code", "where"),
    [
        (lambda kit: listed(kit, "train", "a", "", "gone"), "missing-file", "train.txt:3"),
        (lambda kit: listed(kit, "train", "a", "../../x"), "unsafe-path", "train.txt:2"),
        (lambda kit: listed(kit, "train", "a", "/etc/x"), "unsafe-path", "train.txt:2"),
        (lambda kit: listed(kit, "train", "a", "y" * 9000), "missing-file", "train.txt:2"),
        (lambda kit: listed(kit, "train", "a", "z" * (1 << 21)), "too-large", "train.txt"),
        (lambda kit: listed(kit, "train", "a", "\0"), "not-text", "train.txt"),
        (lambda kit: swap(kit / "Annotations/b.xml", os.mkfifo), "missing-file", "b.xml"),
        (lambda kit: swap(kit / "Annotations/b.xml", Path.mkdir), "missing-file", "b.xml"),
        (
            lambda kit: swap(kit / "Annotations/b.xml", lambda p: p.symlink_to("/etc/passwd")),
            "unsafe-path",
            "b.xml",
        ),
        (
            lambda kit: swap(kit / "Annotations/b.xml", lambda p: p.symlink_to("/dev/zero")),
            "unsafe-path",
            "b.xml",
        ),
        (
            lambda kit: (kit / "ImageSets/Main/train.txt").write_bytes(b"a\n\xff\xfe\n"),
            "not-text",
            "train.txt",
        ),
        (
            lambda kit: (kit / "Annotations/b.xml").rename(kit / "Annotations/b\udcff.xml"),
            "not-text",
            "xml",
        ),
    ],
)
def test_each_bad_place_has_its_code(
    tmp_path: Path, damage: Callable[[Path], object], code: str, where: str
) -> None:
    for stem in "ab":
        write(tmp_path, stem, sheet(stem, thing(1, 1, 2, 2)))
    damage(tmp_path)
    found = read(tmp_path)
    assert [p.code for p in found.problems] == [code]
    assert found.problems[0].where.endswith(where)
    assert [image["file_name"] for image in found.images] == ["JPEGImages/a.jpg"]
    assert found.refused_images == (not where.endswith("train.txt"))
    assert Voc().annotations(tmp_path, "train")


LAYOUTS = {
    "Kaggle's": ("annotations/{}.xml", "images/{}.jpg"),
    "half of VOC's": ("Annotations/{}.xml", "images/{}.jpg"),
    "flat": ("{}.xml", "{}.jpg"),
    "flat train": ("train/{}.xml", "train/{}.jpg"),
    "train": ("train/annotations/{}.xml", "train/images/{}.jpg"),
    "upper case": ("Annotations/{}.XML", "JPEGImages/{}.JPG"),
    "deep": ("Annotations/deep/{}.xml", "JPEGImages/deep/{}.jpg"),
    "deep beside flat": ("Annotations/deep/er/{}.xml", "JPEGImages/{}.jpg"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_layouts(tmp_path: Path, kind: str) -> None:
    patterns = LAYOUTS[kind]
    for stem in ("a", "my dog 1"):
        for pattern in patterns:
            path = tmp_path / pattern.format(stem)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sheet(stem, thing(1, 1, 9, 9)))
    assert Voc().splits(tmp_path) == ["train"]
    found = read(tmp_path)
    assert {p.code for p in found.problems} <= ({"file-name"} if kind == "upper case" else set())
    files = [patterns[1].format(stem) for stem in ("a", "my dog 1")]
    assert sorted(image["file_name"] for image in found.images) == files
    assert len(found.boxes) == 2
    sheets = [tmp_path / patterns[0].format(stem) for stem in ("a", "my dog 1")]
    assert Voc().annotations(tmp_path, "train") == sheets


def test_splits_in_folders_of_their_own(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.jpg").touch()
        (tmp_path / split / "a.xml").write_text(sheet("a", thing(1, 1, 9, 9)))
    assert Voc().splits(tmp_path) == ["train", "val", "test"]
    names = [read(tmp_path, split).images[0]["file_name"] for split in ("train", "val", "test")]
    assert names == ["train/a.jpg", "valid/a.jpg", "test/a.jpg"]


@pytest.mark.parametrize(
    ("stem", "row"),
    [
        ("my dog 1", "my dog 1"),
        ("my dog 1", "my dog 1  -1"),
        ("my dog", "my dog 0"),
        ("my dog", "my dog.jpg 1"),
        ("a.b", "a.b"),
        ("a.b", "a.b.PNG"),
        ("a", "a.jpg"),
        ("deep/a", "deep/a.jpg  1"),
        ("1", "1 1"),
    ],
)
def test_what_a_list_names(tmp_path: Path, stem: str, row: str) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder / "deep").mkdir(parents=True)
    (tmp_path / "Annotations" / f"{stem}.xml").write_text(sheet(stem))
    (tmp_path / "JPEGImages" / f"{stem}.jpg").touch()
    listed(tmp_path, "train", row)
    found = read(tmp_path)
    assert found.problems == []
    assert [image["file_name"] for image in found.images] == [f"JPEGImages/{stem}.jpg"]
    listed(tmp_path, "train", "my cat -1")
    (problem,) = read(tmp_path).problems
    assert "Annotations/my cat.xml" in problem.message


def test_no_damage_goes_unnamed(tmp_path: Path) -> None:
    rng = random.Random(0)
    sound = sheet("a", SQUARE, thing(3, 3, 5, 5)).encode()
    spikes = [b"&x;", b"<", b"]]>", b"<!DOCTYPE a [", b"\xff", b"\0", b"<object>", b"", b"1e999"]
    for _ in range(150):
        damaged = sound
        for _ in range(3):
            start = rng.randrange(len(damaged))
            spike = rng.choice(spikes)
            damaged = damaged[:start] + spike + damaged[start + rng.randrange(9) :]
        write(tmp_path, "a", damaged)
        assert len(read(tmp_path).images) == 1  # anything raised fails the test


def test_parts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PART_IMAGES <= 4_000
    monkeypatch.setattr("frontier.data.formats.reading.PART_IMAGES", 3)
    monkeypatch.setattr("frontier.data.formats.reading.PART_RECORDS", 5)
    for i in range(10):
        write(tmp_path, f"{i}", sheet(f"{i}", *[thing(1, 1, 2, 2)] * i))
    parts = list(Voc().read(tmp_path, "train"))
    assert max(len(part.images) for part in parts) == 3
    assert max(len(part.boxes) for part in parts) == 5
    assert sum(len(part.boxes) for part in parts) == 45


ODD = {
    "sound": sheet("a", SQUARE, thing(3, 3, 5, 5, difficult=1)),
    "stated": "<?xml version='1.0' encoding='UTF-8'?>\n" + sheet("a", SQUARE),
    "Windows lines": sheet("a", SQUARE, SQUARE).replace("\n", "\r\n"),
    "a comment": sheet("a", SQUARE.replace("dog", "d<!-- -->og")),
    "text in CDATA": sheet("a", SQUARE.replace("dog", "<![CDATA[d<g]]>")),
    "a field in a field": sheet("a", SQUARE.replace("<ymax>2", "<ymax><b>2</b>")),
    "a word in bold": sheet("a", SQUARE.replace("dog", "do<b>g</b>")),
    "blanks": sheet("a", SQUARE.replace("<xmin>1", "<xmin> \n1 ")),
    "two boxes": sheet("a", SQUARE.replace("<pose>", "<bndbox/><pose>")),
    "two parts": sheet("a", SQUARE.replace("<pose>", "<part/><pose>")),
    "an object in another": sheet("a", SQUARE.replace("<pose>", "<object><name/></object><pose>")),
    "33 deep": sheet("a", SQUARE, "<a>" * 32 + "</a>" * 32),
    "32 deep": sheet("a", SQUARE, "<a>" * 31 + "</a>" * 31),
    "namespaces": sheet("a", SQUARE).replace("<name>", "<name xmlns='x'>"),
    "two sizes": sheet("a", SQUARE).replace("<size>", "<size/><size>"),
    "no difficult": sheet("a", SQUARE.replace("difficult", "hard")),
    "characters by number": sheet("a", thing(1, 1, 2, 2, name="&#100;&lt;og")),
    **{kind: content for kind, (content, _) in BAD.items()},
}


@pytest.mark.parametrize("kind", ODD)
def test_plain_sheets_and_all_others_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The quick way and the careful one make the same tables and problems."""
    write(tmp_path, "a", ODD[kind])
    quick = read(tmp_path)
    monkeypatch.setattr("frontier.data.formats.voc_xml.plain_sheet", lambda path: None)
    assert read(tmp_path) == quick


def test_a_plain_sheet_is_read_the_quick_way(tmp_path: Path) -> None:
    path = write(tmp_path, "a", ODD["Windows lines"])
    found = plain_sheet(path)
    assert found is not None
    assert len(found.things) == 2
