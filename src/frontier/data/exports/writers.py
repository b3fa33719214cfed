"""The labels of a split as COCO, YOLO or Pascal VOC; each returns how many boxes it left out."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO
from xml.etree import ElementTree

import ruamel.yaml

from frontier.data.catalog import CatalogSplit

Classes = list[dict[str, Any]]  # of a catalog

DECIMALS = 4  # of pixels
SHARE_DECIMALS = 10  # of a side


class Leaving(NamedTuple):
    """A split on its way out; `names` of its image files where they arrive."""

    split: str
    content: CatalogSplit
    names: list[str]


class Box(NamedTuple):
    """0-based class; left, top, width and height in pixels."""

    label: int
    x: float
    y: float
    w: float
    h: float
    ignore: bool


def boxes(content: CatalogSplit, i: int) -> Iterator[Box]:
    """The boxes of image i."""
    corners, labels, ignore = (column.tolist() for column in content.targets(i))
    for (left, top, right, bottom), label, ignored in zip(corners, labels, ignore, strict=True):
        w, h = round(right - left, DECIMALS), round(bottom - top, DECIMALS)
        yield Box(label, round(left, DECIMALS), round(top, DECIMALS), w, h, ignored)


def coco(folder: Path, classes: Classes, leaving: Leaving) -> int:
    """Write `annotations/instances_<split>.json`."""
    categories = [  # some readers insist on a supercategory
        {"id": c["category_id"], "name": c["name"], "supercategory": "object"} for c in classes
    ]
    path = folder / "annotations" / f"instances_{leaving.split}.json"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        file.write(f'{{"categories": {json.dumps(categories)}')
        _write_list(file, "images", _images(leaving))
        _write_list(file, "annotations", _annotations(classes, leaving.content))
        file.write("}\n")
    return 0


def _write_list(file: TextIO, key: str, rows: Iterable[dict[str, Any]]) -> None:
    """Row by row, as there may be millions."""
    file.write(f',\n"{key}": [')
    for number, row in enumerate(rows):
        file.write((",\n" if number else "\n") + json.dumps(row))
    file.write("]")


def _images(leaving: Leaving) -> Iterator[dict[str, Any]]:
    ids, sizes = leaving.content.image_ids.tolist(), leaving.content.sizes_hw.tolist()
    for image_id, (height, width), name in zip(ids, sizes, leaving.names, strict=True):
        yield {"id": image_id, "file_name": name, "width": width, "height": height}


def _annotations(classes: Classes, content: CatalogSplit) -> Iterator[dict[str, Any]]:
    image_ids = content.image_ids.tolist()
    owned = ((image_ids[i], box) for i in range(len(content)) for box in boxes(content, i))
    for number, (image_id, box) in enumerate(owned, start=1):
        yield {
            "id": number,
            "image_id": image_id,
            "category_id": classes[box.label]["category_id"],
            "bbox": [box.x, box.y, box.w, box.h],
            "area": round(box.w * box.h, DECIMALS),
            "segmentation": [],
            "iscrowd": int(box.ignore),
        }


def yolo(folder: Path, classes: Classes, leaving: Leaving) -> int:
    """Write `labels/<split>/*.txt`, where classes have their place in the catalog as number."""
    labels = folder / "labels" / leaving.split
    labels.mkdir(parents=True)
    for i, name in enumerate(leaving.names):
        size_hw = leaving.content.sizes_hw[i].tolist()
        rows = [_line(box, *size_hw) for box in boxes(leaving.content, i) if not box.ignore]
        (labels / name).with_suffix(".txt").write_text("".join(rows))
    return int(leaving.content.ignore.sum())


def _line(box: Box, height: int, width: int) -> str:
    centre = ((box.x + box.w / 2) / width, (box.y + box.h / 2) / height)
    shares = (f"{v:.{SHARE_DECIMALS}f}" for v in (*centre, box.w / width, box.h / height))
    return f"{box.label} {' '.join(shares)}\n"


def data_yaml(folder: Path, classes: Classes, splits: list[str]) -> None:
    """Write the file that tells YOLO tools of the splits and the names of the classes."""
    content: dict[str, Any] = {split: f"images/{split}" for split in splits}
    content["names"] = [str(c["name"]) for c in classes]
    with (folder / "data.yaml").open("w") as file:
        ruamel.yaml.YAML(typ="safe", pure=True).dump(content, file)


def voc(folder: Path, classes: Classes, leaving: Leaving) -> int:
    """Write `Annotations/*.xml` and `ImageSets/Main/<split>.txt`."""
    listing = folder / "ImageSets" / "Main" / f"{leaving.split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    stems = [PurePosixPath(name).stem for name in leaving.names]
    listing.write_text("".join(f"{stem}\n" for stem in stems))
    (folder / "Annotations").mkdir(exist_ok=True)
    for i, stem in enumerate(stems):
        tree = _annotation(classes, leaving, i)
        ElementTree.indent(tree)
        ElementTree.ElementTree(tree).write(folder / "Annotations" / f"{stem}.xml", "utf-8")
    return 0


def _annotation(classes: Classes, leaving: Leaving, i: int) -> ElementTree.Element:
    height, width = leaving.content.sizes_hw[i].tolist()
    root = ElementTree.Element("annotation")
    _put(root, {"folder": "JPEGImages", "filename": leaving.names[i]})
    _put(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _put(root, {"segmented": 0})
    for box in boxes(leaving.content, i):
        thing = ElementTree.SubElement(root, "object")
        name, difficult = classes[box.label]["name"], int(box.ignore)
        facts = {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": difficult}
        _put(thing, facts)
        _put(ElementTree.SubElement(thing, "bndbox"), _corners(box))
    return root


def _corners(box: Box) -> dict[str, str]:
    """From 1, the last pixel included."""
    corners = {"xmin": box.x + 1, "ymin": box.y + 1, "xmax": box.x + box.w, "ymax": box.y + box.h}
    return {key: f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".") for key, value in corners.items()}


def _put(parent: ElementTree.Element, texts: dict[str, Any]) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
