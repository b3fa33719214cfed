"""What the command says of a folder before anything runs."""

from pathlib import Path

import pytest

from frontier.data.intake.source import dataset_folder, describe_source
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


@pytest.mark.parametrize(
    "index", ["annotations/instances_train.json", "zhiyuan_objv2_train.json", "mine.yaml"]
)
def test_a_dataset_is_given_by_its_file_too(tmp_path: Path, index: str) -> None:
    folder = tmp_path / "mine"
    file = folder / index
    file.parent.mkdir(parents=True)
    file.write_text("names: [a]")
    for name in ("images/train/a.jpg", "labels/train/a.txt"):
        (folder / name).parent.mkdir(parents=True)
        if index == "mine.yaml" or name.startswith("images"):
            (folder / name).touch()
    if index != "mine.yaml":
        (folder / "labels" / "train").rmdir()
    assert dataset_folder(tmp_path, f"mine/{index}") == "mine"
    assert dataset_folder(folder, index) == "."
    assert dataset_folder(tmp_path, "mine") == "mine"
    whole = describe_source("mine", None, tmp_path)
    assert describe_source(f"mine/{index}", None, tmp_path) == whole | {"path": f"mine/{index}"}
    (folder / "other.json").touch()
    with pytest.raises(UsageError, match=r"other\.json: belongs to no dataset; give a folder"):
        dataset_folder(tmp_path, "mine/other.json")


def test_images_that_are_not_read_are_no_images(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "mine")
    for path in (folder / "images").rglob("*.*"):
        path.rename(path.with_suffix(".TIF"))
    with pytest.raises(UsageError, match=r"mine: no image in images/ that is read; a\.TIF should"):
        describe_source("mine", None, tmp_path)


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
