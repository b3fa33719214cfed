"""Annotation faults: each is found, none hides another."""

import json
from pathlib import Path
from typing import Any

import pytest

from frontier.data.formats import coco, objects365, read_annotations
from frontier.errors import DataError


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


def faults(content: Any) -> list[tuple[str, str]]:
    return [(p.code, p.where) for p in coco.parse(content, "f").problems]


def test_sound_content_with_gaps_and_an_empty_image() -> None:
    parsed = coco.parse(sound(), "f")
    assert parsed.problems == []
    assert parsed.classes == {3: "a", 90: "b"}
    assert [box.is_crowd for box in parsed.boxes] == [False, True]
    assert len(parsed.images) == 2


@pytest.mark.parametrize(
    ("list_name", "key"),
    [
        *(("categories", key) for key in ("id", "name")),
        *(("images", key) for key in ("id", "file_name", "width", "height")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "bbox")),
    ],
)
def test_each_missing_field_is_found(list_name: str, key: str) -> None:
    content = sound()
    del content[list_name][0][key]
    assert ("missing-field", f"f {list_name}[0]") in faults(content)


@pytest.mark.parametrize("key", ["categories", "images", "annotations"])
def test_missing_or_wrong_lists(key: str) -> None:
    content = sound()
    content[key] = "nothing"
    assert ("wrong-type", f"f {key}") in faults(content)
    del content[key]
    assert ("missing-field", "f top level") in faults(content)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"category_id": 4}, "unknown-category"),
        ({"image_id": 9}, "unknown-image"),
        ({"id": 2}, "duplicate-id"),
        ({"bbox": [0, 0, 5]}, "wrong-type"),
        ({"bbox": [0, 0, "5", 5]}, "wrong-type"),
        ({"bbox": [0, 0, float("nan"), 5]}, "not-finite"),
        ({"bbox": [0, 0, 10**400, 5]}, "not-finite"),
        ({"bbox": None}, "wrong-type"),
        ({"iscrowd": "yes"}, "wrong-type"),
        ({"category_id": True}, "wrong-type"),
        ({"image_id": 2**70}, "wrong-type"),
        ({"id": "x" * 10_000}, "wrong-type"),
    ],
)
def test_each_wrong_value_is_found(change: dict[str, Any], code: str) -> None:
    content = sound()
    content["annotations"][0] |= change
    found = coco.parse(content, "f").problems
    assert [p.code for p in found] == [code]
    assert found[0].severity == "critical"
    assert len(str(found[0])) < 300


def test_all_faults_are_listed_at_once() -> None:
    content = sound()
    content["annotations"] = [{"id": i, "category_id": 7} for i in range(5)]
    content["images"][1]["id"] = 1
    content["categories"][1]["id"] = 3
    codes = [code for code, _ in faults(content)]
    assert codes.count("unknown-category") == 5
    assert codes.count("missing-field") == 10
    assert codes.count("duplicate-id") == 2


@pytest.mark.parametrize("content", [[], None, 3, "text"])
def test_a_top_level_that_is_no_object(content: Any) -> None:
    assert faults(content) == [("wrong-type", "f top level")]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_what_is_not_json_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "instances_train.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="instances_train"):
        read_annotations(path)


def test_a_byte_order_mark_and_infinity_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    content = sound()
    content["annotations"][0]["bbox"] = "SPIKE"
    text = json.dumps(content).replace('"SPIKE"', "[0, 0, 1e999, 5]")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [p.code for p in coco.read(path).problems] == ["not-finite"]


@pytest.mark.parametrize("place", ["", "train", "images/v2"])
def test_objects365_finds_its_patches(tmp_path: Path, place: str) -> None:
    content = sound()
    for i, image in enumerate(content["images"]):
        image["file_name"] = f"images/v2/patch{i}/objects365_v2_0000000{i}.jpg"
        path = tmp_path / place / f"patch{i}" / f"objects365_v2_0000000{i}.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / objects365.ANNOTATIONS).write_text(json.dumps(content))
    parsed = objects365.read(tmp_path)
    assert all((tmp_path / image.file_name).is_file() for image in parsed.images)
