"""Annotation faults in COCO-like JSON: each is found, none hides another."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from frontier.data.formats import Part, Problem, records, stream, whereabouts
from frontier.data.formats.coco import Coco
from frontier.data.formats.objects365 import Objects365


def sound() -> dict[str, Any]:
    return {
        "categories": [{"id": 3, "name": "a"}, {"id": 90, "name": "b"}],
        "images": [
            {"id": 1, "file_name": "1.jpg", "width": 10, "height": 8},
            {"id": 2, "file_name": "2.jpg", "width": 10, "height": 8},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 90, "bbox": [1, 1, 5.5, 5], "iscrowd": 1},
        ],
    }


class Read:
    """A file read to its end."""

    def __init__(self, folder: Path, content: Any) -> None:
        path = folder / "f.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        parts: list[Part] = list(records.Records(path, "f").parts())
        self.problems: list[Problem] = [p for part in parts for p in part.problems]
        self.images = [row for part in parts for row in part.images.to_pylist()]
        self.boxes = [row for part in parts for row in part.boxes.to_pylist()]
        self.classes = {i: name for part in parts for i, name in part.classes.items()}
        self.refused = [i for part in parts for i in part.refused]
        self.codes = [problem.code for problem in self.problems]


def test_sound_content_with_gaps_and_an_empty_image(tmp_path: Path) -> None:
    read = Read(tmp_path, sound())
    assert read.problems == []
    assert read.classes == {3: "a", 90: "b"}
    assert [box["is_crowd"] for box in read.boxes] == [False, True]
    assert read.boxes[1] == {
        **{"image_id": 1, "category_id": 90, "x": 1, "y": 1, "w": 5.5, "h": 5},
        **{"is_crowd": True, "line": 1, "source_id": 2},
    }
    assert len(read.images) == 2


@pytest.mark.parametrize(
    ("list_name", "key"),
    [
        *(("categories", key) for key in ("id", "name")),
        *(("images", key) for key in ("id", "file_name")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "bbox")),
    ],
)
def test_each_missing_field_is_found(tmp_path: Path, list_name: str, key: str) -> None:
    content = sound()
    del content[list_name][0][key]
    read = Read(tmp_path, content)
    assert [(p.code, p.where) for p in read.problems] == [
        ("missing-field", f"f {list_name}[0] (line 1)")
    ]
    assert len(read.boxes) + len(read.images) + len(read.classes) == 5


@pytest.mark.parametrize("key", ["width", "height"])
@pytest.mark.parametrize(("value", "code"), [(None, "missing-size"), ("8", "wrong-size")])
def test_a_size_that_is_not_stated_is_a_remark(
    tmp_path: Path, key: str, value: Any, code: str
) -> None:
    content = sound()
    content["images"][0] |= {key: value}
    if value is None:
        del content["images"][0][key]
    read = Read(tmp_path, content)
    assert [(p.code, p.severity) for p in read.problems] == [(code, "warning")]
    assert read.images[0][key] == 0


@pytest.mark.parametrize("key", ["categories", "images", "annotations"])
def test_missing_or_wrong_lists(tmp_path: Path, key: str) -> None:
    content = sound()
    content[key] = "nothing"
    assert Read(tmp_path, content).codes == ["wrong-type"]
    del content[key]
    read = Read(tmp_path, content)
    assert [(p.code, p.where) for p in read.problems] == [("missing-field", "f top level")]
    content[key] = []
    assert Read(tmp_path, content).codes == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bbox": [0, 0, 5]}, "wrong-type"),
        ({"bbox": [0, 0, "5", 5]}, "wrong-type"),
        ({"bbox": [0, 0, True, 5]}, "wrong-type"),
        ({"bbox": [0, 0, float("nan"), 5]}, "not-finite"),
        ({"bbox": [0, 0, float("-inf"), 5]}, "not-finite"),
        ({"bbox": [0, 0, 10**400, 5]}, "not-finite"),
        ({"bbox": [0, 0, 1e30, 5]}, "not-finite"),
        ({"bbox": None}, "wrong-type"),
        ({"bbox": {"x": 1}}, "wrong-type"),
        ({"iscrowd": "yes"}, "wrong-type"),
        ({"iscrowd": 2}, "wrong-type"),
        ({"category_id": True}, "wrong-type"),
        ({"category_id": -1}, "wrong-type"),
        ({"image_id": 2**70}, "wrong-type"),
        ({"image_id": 1.5}, "wrong-type"),
        ({"image_id": None}, "wrong-type"),
        ({"id": "x" * 10_000}, "wrong-type"),
        ({"id": ["a"]}, "wrong-type"),
    ],
)
def test_each_wrong_value_is_found(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    content = sound()
    content["annotations"][0] |= change
    read = Read(tmp_path, content)
    assert read.codes == [code]
    assert read.problems[0].severity == "critical"
    assert len(str(read.problems[0])) < 300
    assert [box["source_id"] for box in read.boxes] == [2]


def test_integers_written_as_floats_are_integers(tmp_path: Path) -> None:
    content = sound()
    content["annotations"][0] |= {"image_id": 2.0, "id": 7.0}
    read = Read(tmp_path, content)
    assert read.problems == []
    assert (read.boxes[0]["image_id"], read.boxes[0]["source_id"]) == (2, 7)


@pytest.mark.parametrize("slow", [False, True])
def test_what_tools_leave_out_or_write_as_text(tmp_path: Path, slow: bool) -> None:
    content = sound()
    content["annotations"][0]["iscrowd"] = None
    for box in content["annotations"]:
        del box["id"]
    if slow:
        content["images"][0]["id"] = "1"
        content["annotations"][0] |= {"image_id": "1", "category_id": "3"}
    read = Read(tmp_path, content)
    assert read.problems == []
    assert [box["is_crowd"] for box in read.boxes] == [False, True]
    assert [box["image_id"] for box in read.boxes] == [1, 1]
    assert [box["source_id"] for box in read.boxes] == [None, None]


@pytest.mark.parametrize("text", ["01", " 1", "+1", "-1", "1.0", "", "1" * 20, "\u0661"])
def test_what_is_no_plain_number_is_no_id(tmp_path: Path, text: str) -> None:
    content = sound()
    content["annotations"][0]["image_id"] = text
    assert Read(tmp_path, content).codes == ["wrong-type"]


@pytest.mark.parametrize("value", ["text", 3, None, [1]])
@pytest.mark.parametrize("key", ["categories", "images", "annotations"])
def test_a_record_that_is_no_object(tmp_path: Path, key: str, value: Any) -> None:
    content = sound()
    content[key].append(value)
    read = Read(tmp_path, content)
    assert [(p.code, p.where) for p in read.problems] == [("wrong-type", f"f {key}[2] (line 1)")]


def test_half_a_surrogate_pair_is_no_name(tmp_path: Path) -> None:
    content = sound()
    content["images"][1]["file_name"] = "\ud800.jpg"
    read = Read(tmp_path, content)
    assert read.codes == ["not-text"]
    assert read.refused == [2]
    assert [image["image_id"] for image in read.images] == [1]


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    content = sound()
    content["annotations"] = [{"id": i, "category_id": 7} for i in range(5)]
    content["categories"][1]["id"] = 3
    content["categories"].append({"id": 4, "name": "a"})
    codes = Read(tmp_path, content).codes
    assert codes.count("missing-field") == 10
    assert codes.count("duplicate-id") == 1
    assert codes.count("duplicate-class") == 1


def test_time_grows_with_the_categories_and_not_with_their_square(tmp_path: Path) -> None:
    content = sound() | {"categories": [{"id": i, "name": f"class {i}"} for i in range(40_000)]}
    content["categories"] += content["categories"][-2:]
    started = time.process_time()
    read = Read(tmp_path, content)
    assert time.process_time() - started < 5  # in the square, half a minute
    assert (len(read.classes), read.codes) == (40_000, ["duplicate-id"] * 2)


def test_a_sound_batch_and_a_faulty_one_read_alike(tmp_path: Path, monkeypatch: Any) -> None:
    """The quick way and the careful one make the same tables."""
    content = sound()
    content["annotations"] *= 20
    quick = Read(tmp_path, content).boxes
    monkeypatch.setattr(records, "_quick_boxes", lambda batch: None)
    assert Read(tmp_path, content).boxes == quick


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"text"', b"", b" \n "])
def test_a_top_level_that_is_no_object(tmp_path: Path, content: bytes) -> None:
    read = Read(tmp_path, content)
    assert [p.code for p in read.problems if p.code != "missing-field"] == ["wrong-type"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "broken-file"),
        (b'{"images": [', "broken-file"),
        (b'{"images": [{"id": 1]}', "broken-file"),
        (b'{"images": [] "x": 1}', "broken-file"),
        (b'{"images": []} trailing', "broken-file"),
        (b"{'images': []}", "broken-file"),
        (b"<html>not found</html>", "wrong-type"),
        (b'{"images": "\xff\xfe"}', "wrong-type"),
        (b"\xff\xfe{\x00\x00\xd8", "not-text"),
        (b'{"images": ' + b"[" * 100_000, "broken-file"),
        (b'{"images": [], "images": []}', "duplicate-key"),
    ],
)
def test_a_file_that_breaks_says_so_and_where(tmp_path: Path, content: bytes, code: str) -> None:
    read = Read(tmp_path, content)
    assert code in read.codes
    assert read.problems[read.codes.index(code)].where in ("f line 1", "f images")


def test_what_stood_before_the_break_is_read(tmp_path: Path) -> None:
    text = json.dumps(sound(), indent=1)
    cut = text.index('"iscrowd": 1')
    read = Read(tmp_path, text[:cut].encode())
    assert read.codes == ["broken-file"]
    assert len(read.images) == 2
    assert [box["source_id"] for box in read.boxes] == [1]
    assert f"line {text[:cut].count(chr(10)) + 1}" in read.problems[0].where


def test_lines_are_counted(tmp_path: Path) -> None:
    text = json.dumps(sound(), indent=1)
    read = Read(tmp_path, text.encode())
    lines = text.splitlines()
    for box in read.boxes:
        assert lines[box["line"] - 1].strip() == "{"
        assert lines[box["line"]].strip() == f'"id": {box["source_id"]},'


@pytest.mark.parametrize("window", [1, 2, 7, 64])
def test_records_cut_by_the_window_are_whole(tmp_path: Path, monkeypatch: Any, window: int) -> None:
    content = sound() | {"info": {"text": 'a " \\ ü 🎲'}, "count": 123456789, "flag": True}
    path = tmp_path / "f.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2))
    whole = list(stream.elements(path))
    monkeypatch.setattr(stream, "WINDOW", window)
    assert list(stream.elements(path)) == whole
    assert {e.key: e.value for e in whole if e.place is None} == {
        key: content[key] for key in ("info", "count", "flag")
    }


def test_one_record_may_not_be_endless(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(stream, "LARGEST", 1000)
    monkeypatch.setattr(stream, "WINDOW", 100)
    content = sound()
    content["annotations"][1]["note"] = "x" * 100_000
    read = Read(tmp_path, content)
    assert read.codes == ["too-large"]
    assert len(read.boxes) == 1


def test_a_key_stated_twice_in_a_record(tmp_path: Path) -> None:
    text = json.dumps(sound()).replace('"category_id": 90', '"category_id": 3, "category_id": 90')
    read = Read(tmp_path, text.encode())
    assert read.codes == ["duplicate-key"]
    assert len(read.boxes) == 1


def test_thousands_of_digits(tmp_path: Path) -> None:
    text = json.dumps(sound()).replace("5.5", "9" * 5000)
    assert Read(tmp_path, text.encode()).codes == ["not-finite"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_every_encoding_that_json_allows(tmp_path: Path, encoding: str) -> None:
    content = sound()
    content["images"][0]["file_name"] = "zwölf.jpg"
    read = Read(tmp_path, json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read.problems == []
    assert read.images[0]["file_name"] == "zwölf.jpg"


def test_infinity_as_python_writes_it(tmp_path: Path) -> None:
    for number in ("1e999", "Infinity", "NaN", "-1e999"):
        text = json.dumps(sound()).replace("5.5", number)
        assert Read(tmp_path, text.encode()).codes == ["not-finite"]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train.json", "images"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/train.json", "images/train"),
        ("train/_annotations.coco.json", "train"),
        ("annotations/instances_train.json", ""),
        ("annotations/instances_default.json", "images"),
        ("annotations/annotations.json", "images/train"),
        ("annotations.json", "images"),
        ("_annotations.coco.json", ""),
        ("train.json", "images"),
        ("train2017.json", "train2017"),
        ("result.json", "images"),
        ("labels.json", "data"),
        ("train/labels.json", "train/data"),
        ("train/_annotations.coco.json", "train/images"),
    ],
)
def test_coco_finds_its_images(tmp_path: Path, annotations: str, images: str) -> None:
    for path in (tmp_path / annotations, tmp_path / images / "1.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / annotations).write_text(json.dumps(sound()))
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / images / name).touch()
    form = Coco()
    assert form.splits(tmp_path) == ["train"]
    assert form.annotations(tmp_path, "train") == [tmp_path / annotations]
    rows = [row for part in form.read(tmp_path, "train") for row in part.images.to_pylist()]
    assert len(rows) == 2
    for row in rows:
        assert (form.image_root(tmp_path) / row["file_name"]).is_file()
        assert row["source"] == annotations


def test_coco_takes_names_that_are_spelt_out_where_they_lie_inside(tmp_path: Path) -> None:
    content = sound()
    content["images"][0]["file_name"] = str(tmp_path / "images" / "1.jpg")
    content["images"][1]["file_name"] = str(tmp_path / "2.jpg")
    for folder in ("annotations", "images"):
        (tmp_path / folder).mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    (tmp_path / "images" / "1.jpg").touch()
    rows = [row for part in Coco().read(tmp_path, "train") for row in part.images.to_pylist()]
    assert [row["file_name"] for row in rows] == ["1.jpg", str(tmp_path / "2.jpg")]


def test_coco_takes_names_from_the_datasets_folder(tmp_path: Path) -> None:
    content = sound()
    for image in content["images"]:
        image["file_name"] = f"images/deep/{image['file_name']}"
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "2.jpg").touch()  # that the first is gone says nothing
    (tmp_path / "train.json").write_text(json.dumps(content))
    rows = [row for part in Coco().read(tmp_path, "train") for row in part.images.to_pylist()]
    assert [row["file_name"] for row in rows] == ["images/deep/1.jpg", "deep/2.jpg"]


def test_where_images_lie_is_not_sought_for_ever(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(whereabouts, "TRIED", 3)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "4.jpg").touch()
    for count, expected in ((3, "train/4.jpg"), (4, "4.jpg")):
        place = whereabouts.placing(tmp_path, [str, "train/{}".format])
        assert [place("gone.jpg") for _ in range(count - 1)] == ["gone.jpg"] * (count - 1)
        assert place("4.jpg") == expected


OBJECTS365 = {
    "zhiyuan_objv2_train.json": ["", "train", "images/v2", "images/train", "train/images/v2"],
    "annotations/zhiyuan_objv2_train.json": ["train", "images/train", "images/v2"],
    "train/zhiyuan_objv2_train.json": ["train", "train/images/v2"],
}


@pytest.mark.parametrize(
    ("file", "place"), [(file, place) for file, places in OBJECTS365.items() for place in places]
)
def test_objects365_finds_its_patches(tmp_path: Path, file: str, place: str) -> None:
    content = sound()
    for i, image in enumerate(content["images"]):
        image["file_name"] = f"images/v2/patch{i}/objects365_v2_0000000{i}.jpg"
        path = tmp_path / place / f"patch{i}" / f"objects365_v2_0000000{i}.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(content))
    form = Objects365()
    assert form.splits(tmp_path) == ["train"]
    assert form.index(tmp_path) == [tmp_path / file]
    assert Coco().splits(tmp_path) == []
    rows = [row for part in form.read(tmp_path, "train") for row in part.images.to_pylist()]
    assert len(rows) == 2
    assert all((tmp_path / row["file_name"]).is_file() for row in rows)


def test_objects365_leaves_a_name_that_leads_outside_to_be_refused(tmp_path: Path) -> None:
    content = sound()
    content["images"][0]["file_name"] = "../../secret/1.jpg"
    (tmp_path / "zhiyuan_objv2_train.json").write_text(json.dumps(content))
    (part, *_) = [p for p in Objects365().read(tmp_path, "train") if p.images.num_rows]
    assert part.images["file_name"][0].as_py() == "../../secret/1.jpg"
