"""Exports are read back by the readers of their formats, box for box."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frontier.data.catalog import Catalog
from frontier.data.exports.exporting import Form, export
from frontier.data.formats import Format
from frontier.data.formats.voc import Voc
from frontier.data.formats.yolo import Yolo
from frontier.data.generated import synthetic
from frontier.errors import UsageError
from frontier.files import read_json
from frontier.params import Synthetic
from tests.catalogs import write_catalog

SMALL = Synthetic(seed=5, train=7, val=3, test=2, unlabelled=2)
FORMS: tuple[Form, ...] = ("coco", "yolo", "voc")
REAL = Path(__file__).parents[2].parent / "shared" / "data"

Found = dict[str, list[tuple[Any, ...]]]  # (class name, x, y, w, h, crowd) by image name


def catalog_of(folder: Path, source: Path, splits: Iterable[str]) -> Catalog:
    """What `ingest` makes of a sound COCO folder."""
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    content: dict[str, Any] = {}
    for split in splits:
        content = read_json(source / "annotations" / f"instances_{split}.json")
        for image in content["images"]:
            size = {key: image[key] for key in ("width", "height")}
            row = {"image_id": image["id"], "split": split, "file_name": image["file_name"]}
            images.append({**row, **size, "status": "ok"})
        for box in content["annotations"]:
            sides = dict(zip("xywh", box["bbox"], strict=True))
            row = {"box_id": len(boxes) + 1, "split": split, "image_id": box["image_id"], **sides}
            crowd = bool(box.get("iscrowd"))
            boxes.append({**row, "category_id": box["category_id"], "is_crowd": crowd})
    classes = [{"category_id": c["id"], "name": c["name"]} for c in content["categories"]]
    info = {"name": "mine", "image_root": str(source / "images"), "unlabelled_root": None}
    place = folder / "data" / "ingest" / "catalog"
    write_catalog(place, {**info, "classes": classes}, images, boxes)
    return Catalog.load(place)


def held(catalog: Catalog, split: str, crowds: bool = True) -> Found:
    """What the catalog has, by the image's name without folders."""
    content = catalog.split(split)
    found: Found = {}
    for i, name in enumerate(content.file_names):
        corners, labels, ignore = content.targets(i)
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        rows = zip(labels.tolist(), sides.tolist(), ignore.tolist(), strict=True)
        found[Path(name).name] = [
            (catalog.classes[label]["name"], *own, crowd)
            for label, own, crowd in rows
            if crowds or not crowd
        ]
    return found


def read_back(folder: Path, form: Form, split: str) -> Found:
    if form == "coco":
        return read_coco(folder, split)
    format: Format = Yolo() if form == "yolo" else Voc()
    assert split in format.splits(folder)
    names: dict[int, str] = {}
    classes: dict[int, str] = {}
    found: Found = {}
    for part in format.read(folder, split):
        assert part.problems == []
        classes |= part.classes
        for image in part.images.to_pylist():
            assert (format.image_root(folder) / image["file_name"]).is_file()
            with Image.open(format.image_root(folder) / image["file_name"]) as opened:
                assert opened.size == (image["width"], image["height"])
            names[image["image_id"]] = Path(image["file_name"]).name
            found[names[image["image_id"]]] = []
        for box in part.boxes.to_pylist():
            row = (classes[box["category_id"]], *(box[key] for key in "xywh"), box["is_crowd"])
            found[names[box["image_id"]]].append(row)
    return found


def read_coco(folder: Path, split: str) -> Found:
    content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    classes = {c["id"]: c["name"] for c in content["categories"]}
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert all((folder / "images" / name).is_file() for name in names.values())
    found: Found = {name: [] for name in names.values()}
    for box in content["annotations"]:
        row = (classes[box["category_id"]], *box["bbox"], bool(box["iscrowd"]))
        found[names[box["image_id"]]].append(row)
    return found


def assert_same(found: Found, expected: Found) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert [(row[0], row[-1]) for row in found[name]] == [(row[0], row[-1]) for row in rows]
        for row, other in zip(found[name], rows, strict=True):
            assert row[1:5] == pytest.approx(other[1:5], abs=1e-3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder with a crowd, an image without boxes, gaps in ids and odd class names."""
    folder = tmp_path_factory.mktemp("source")
    synthetic.write_coco(folder, SMALL)
    for split in ("train", "val", "test"):
        path = folder / "annotations" / f"instances_{split}.json"
        content = read_json(path)
        names = ["no", "7", "<a & b>", "caf\u00e9 'x': \"y\""]
        for category in content["categories"]:
            category["id"] *= 10
            category["name"] = names.pop() if names else category["name"]
        first, second = (image["id"] for image in content["images"][:2])
        boxes = [box for box in content["annotations"] if box["image_id"] != first]
        for box in boxes:
            box["category_id"] *= 10
            box["iscrowd"] = int(box["image_id"] == second)
        path.write_text(json.dumps({**content, "annotations": boxes}))
    return folder


@pytest.fixture
def catalog(tmp_path: Path, source: Path) -> Catalog:
    return catalog_of(tmp_path, source, ("train", "val", "test"))


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_out_comes_back(catalog: Catalog, tmp_path: Path, form: Form) -> None:
    counts = export(catalog, tmp_path / "out", form)
    expected = {s: held(catalog, s, crowds=form != "yolo") for s in ("train", "val", "test")}
    for split, images in expected.items():
        assert_same(read_back(tmp_path / "out", form, split), images)
    crowds = sum(int(catalog.split(split).ignore.sum()) for split in expected)
    assert crowds > 0
    boxes = sum(len(rows) for images in expected.values() for rows in images.values())
    left_out = crowds if form == "yolo" else 0
    assert counts == {"images": 12, "boxes": boxes, "left_out": left_out}
    assert not [path for path in (tmp_path / "out").rglob("*") if "unlabelled" in path.name]
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_coco_keeps_the_ids(catalog: Catalog, tmp_path: Path) -> None:
    export(catalog, tmp_path / "out", "coco")
    content = read_json(tmp_path / "out/annotations/instances_train.json")
    assert [c["id"] for c in content["categories"]] == [c["category_id"] for c in catalog.classes]
    assert [i["id"] for i in content["images"]] == catalog.split("train").image_ids.tolist()
    assert [b["id"] for b in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )


def test_yolo_keeps_the_order_of_the_classes(catalog: Catalog, tmp_path: Path) -> None:
    export(catalog, tmp_path / "out", "yolo", ["val"])
    assert Yolo().splits(tmp_path / "out") == ["val"]
    (part,) = Yolo().read(tmp_path / "out", "val")
    assert part.classes == {i: c["name"] for i, c in enumerate(catalog.classes)}


@pytest.mark.parametrize("form", FORMS)
def test_only_what_was_asked_for(catalog: Catalog, tmp_path: Path, form: Form) -> None:
    assert export(catalog, tmp_path / "out", form, ["val"])["images"] == 3
    assert not [path for path in (tmp_path / "out").rglob("*") if "train" in path.name]
    for split in ("unlabelled", "holdout"):
        with pytest.raises(UsageError, match="no split with labels; this catalog has train, val"):
            export(catalog, tmp_path / "other", form, [split])


def test_images_are_links_or_copies(
    catalog: Catalog, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = source / "images" / "val_00000.jpg"
    export(catalog, tmp_path / "linked", "coco", ["val"])
    assert (tmp_path / "linked/images/val_00000.jpg").samefile(original)
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    export(catalog, tmp_path / "copied", "coco", ["val"])
    copy = tmp_path / "copied/images/val_00000.jpg"
    assert not copy.samefile(original)
    assert copy.read_bytes() == original.read_bytes()


def test_a_folder_in_use_is_left_alone(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").touch()
    for folder in (tmp_path / "used", tmp_path / "used" / "thesis.txt"):
        with pytest.raises(UsageError, match="not empty"):
            export(catalog, folder, "coco")
    (tmp_path / "empty").mkdir()
    assert export(catalog, tmp_path / "empty", "coco")["images"] == 12


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, source: Path) -> None:
    mine = Path(shutil.copytree(source, tmp_path / "mine"))
    catalog = catalog_of(tmp_path, mine, ("train",))
    before = sorted(tmp_path.iterdir())
    (mine / "images" / "train_00004.jpg").unlink()
    with pytest.raises(UsageError, match=r"train_00004\.jpg: gone"):
        export(catalog, tmp_path / "out", "yolo")
    (mine / "images" / "train_00004.jpg").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="outside"):
        export(catalog, tmp_path / "out", "yolo")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_equal_and_awkward_names_are_told_apart(tmp_path: Path, source: Path, form: Form) -> None:
    mine = Path(shutil.copytree(source, tmp_path / "mine"))
    path = mine / "annotations" / "instances_train.json"
    content = read_json(path)
    names = [
        "a/x.jpg",
        "b/x.jpg",
        "x_2.jpg",
        "x.png",
        "my photo.v2.jpg",
        "images/b/y.JPG",
        "z.jpeg",
    ]
    for image, name in zip(content["images"], names, strict=True):
        (mine / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / "images" / image["file_name"]).rename(mine / "images" / name)
        image["file_name"] = name
    path.write_text(json.dumps(content))
    catalog = catalog_of(tmp_path, mine, ("train",))
    export(catalog, tmp_path / "out", form)
    found = read_back(tmp_path / "out", form, "train")
    assert len({Path(name).stem for name in found}) == 7
    assert {"x.jpg", "my_photo.v2.jpg", "y.JPG"} <= found.keys()
    content = catalog.split("train")
    images = {path.stat().st_ino: path.name for path in (tmp_path / "out").rglob("*.*")}
    for i in range(len(content)):  # links lead back to the image that the boxes are of
        ignored = content.targets(i)[2]
        own = found[images[content.image_path(i).stat().st_ino]]
        assert len(own) == (len(ignored) if form != "yolo" else (~ignored).sum())


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos beside the checkout")
@pytest.mark.parametrize("form", FORMS)
def test_blood_smears_survive_the_journey(tmp_path: Path, form: Form) -> None:
    catalog = catalog_of(tmp_path, REAL / "bccd", ("val", "test"))
    counts = export(catalog, tmp_path / "out", form)
    assert counts == {"images": 87 + 72, "boxes": 1135 + 944, "left_out": 0}
    for split in ("val", "test"):
        assert_same(read_back(tmp_path / "out", form, split), held(catalog, split))
