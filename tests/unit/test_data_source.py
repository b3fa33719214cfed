"""What the command says of a folder before anything runs."""

from pathlib import Path

import pytest

from frontier.data.intake.source import describe_source
from frontier.errors import UsageError


def dataset(root: Path) -> Path:
    (root / "images" / "deep").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name in ("images/b.jpg", "images/a.PNG", "images/deep/c.webp", "images/notes.txt"):
        (root / name).write_bytes(b"12345")
    (root / "annotations" / "instances_train.json").write_text("{}")
    return root


def test_synthetic_needs_nothing() -> None:
    assert describe_source("synthetic", None) == {"kind": "synthetic", "path": "synthetic"}


def test_a_folder_is_listed_without_being_read(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "mine")
    described = describe_source("mine", None, tmp_path)
    assert [image[0] for image in described["images"]] == ["a.PNG", "b.jpg", "deep/c.webp"]
    assert described["images"][0][1] == 5
    assert list(described["annotations"]) == ["train"]
    assert describe_source("mine", None, tmp_path) == described
    (folder / "images" / "b.jpg").write_bytes(b"longer than before")
    assert describe_source("mine", None, tmp_path) != described


def test_unlabelled_images_are_part_of_it(tmp_path: Path) -> None:
    dataset(tmp_path / "mine")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "u.jpg").touch()
    described = describe_source("mine", "extra", tmp_path)
    assert described["unlabelled"]["images"][0][0] == "u.jpg"


@pytest.mark.parametrize("path", ["absent", "."])
def test_what_is_no_dataset_is_refused_with_all_that_is_missing(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe_source(path, "nowhere", tmp_path)
    text = str(caught.value)
    assert "nowhere" in text
    assert "instances_" in text
    if path == ".":
        for form in ("coco", "objects365", "voc", "yolo"):
            assert f"({form})" in text


def test_labels_without_images_or_train_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "annotations"
    folder.mkdir(parents=True)
    (folder / "instances_val.json").write_text("{}")
    with pytest.raises(UsageError) as caught:
        describe_source("mine", None, tmp_path)
    assert "no train split" in str(caught.value)
    assert "no image" in str(caught.value)


def test_a_folder_of_two_formats_is_not_guessed_at(tmp_path: Path) -> None:
    dataset(tmp_path / "mine")
    (tmp_path / "mine" / "zhiyuan_objv2_train.json").write_text("{}")
    with pytest.raises(UsageError, match="coco and objects365; say which by ingest"):
        describe_source("mine", None, tmp_path)
    assert describe_source("mine", None, tmp_path, "coco")["kind"] == "coco"
