"""The dataset card: the worst are found and drawn, whatever the dataset calls them is text."""

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from frontier.boxes import Letterbox
from frontier.data.drawing import COLORS
from frontier.data.formats.coco import Coco
from frontier.data.generated import synthetic
from frontier.data.intake.assembly import Source, assemble
from frontier.data.verdict import flags
from frontier.data.verdict.card import write_card
from frontier.data.verdict.exhibits import SIDE_PX
from frontier.data.verdict.judged import Judged
from frontier.data.verdict.naming import Names
from frontier.data.verdict.offenders import Offender
from frontier.params import Synthetic, load_params
from frontier.stages.validate import _verdict

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
WORKERS = PARAMS.workers.model_copy(update={"jobs": 1})
LIMITS = PARAMS.validate_.model_copy(update={"max_boxes": 40})
SMALL = Synthetic(seed=3, train=8, val=3, test=3, unlabelled=0)
HOSTILE = "<script>alert('x')</script> $x_1$ & \"co\""
HOSTILE_FILE = "<img src=x onerror=alert(1)>.jpg"
RULE = {"severity": "warning", "success": False, "unexpected": 1, "total": 8, "message": "m"}

Content = dict[str, Any]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "mine"
    folder.mkdir()
    synthetic.write_coco(folder, SMALL)
    return folder


def planted(content: Content, folder: Path) -> None:
    """Six duplicates on image 2; an image of another size; one cut off; one in two splits."""
    images, boxes = content["images"], content["annotations"]
    victim = next(box for box in boxes if box["image_id"] == images[2]["id"])
    boxes += [victim | {"id": 10**6 + i} for i in range(6)]
    images[3]["width"] += 7
    cut = folder / "images" / images[4]["file_name"]
    cut.write_bytes(cut.read_bytes()[:-800])
    many = next(box for box in boxes if box["image_id"] == images[5]["id"])
    boxes += [many | {"id": 10**7 + i} for i in range(50)]
    shutil.copy(folder / "images" / images[6]["file_name"], folder / "images" / "test_00001.jpg")
    content["categories"][victim["category_id"] - 1]["name"] = HOSTILE
    (folder / "images" / images[2]["file_name"]).rename(folder / "images" / HOSTILE_FILE)
    images[2]["file_name"] = HOSTILE_FILE


def copied(pristine: Path, to: Path) -> Path:
    return Path(shutil.copytree(pristine, to / "mine"))


def changed(folder: Path, split: str) -> Content:
    path = folder / "annotations" / f"instances_{split}.json"
    return dict(json.loads(path.read_text()))


def write(folder: Path, split: str, content: Content) -> None:
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def judge(folder: Path, work: Path) -> Judged:
    catalog, judged, spools = work / "catalog", work / "judged", work / "spools"
    judged.mkdir(parents=True)
    spools.mkdir()
    source = Source("mine", "mine", Coco(), folder, str(Coco().image_root(folder)))
    assemble(source, catalog, spools, PARAMS.ingest, WORKERS, 0)
    return Judged(catalog, judged, LIMITS)


def make_card(found: Judged, work: Path, sample: str = "s") -> Path:
    tables = found.tables()
    names = Names(found.catalog, work / "judged", tables)
    entries = [{"code": "a-code", **RULE, "sample": [sample] * 9}]
    write_card(work / "card", found, names, _verdict(entries, found, tables, work / "judged"))
    return work / "card"


@pytest.fixture(scope="module")
def damaged(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copied(pristine, tmp_path_factory.mktemp("damaged"))
    content = changed(folder, "train")
    planted(content, folder)
    write(folder, "train", content)
    for split in ("val", "test"):
        other = changed(folder, split)
        other["categories"] = content["categories"]
        for image in other["images"]:
            del image["width"]  # one of them is another file now
        write(folder, split, other)
    return folder


@pytest.fixture(scope="module")
def found(damaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return judge(damaged, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def card(found: Judged) -> Path:
    return make_card(found, found.catalog.parent, sample=HOSTILE)


class Page(HTMLParser):
    """What a browser would make of a page: elements, words, and figures with their pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.pictures: dict[str, list[np.ndarray]] = {}
        text = path.read_text()
        self.feed(text)
        for figure in re.findall(r"<figure.*?</figure>", text, re.DOTALL):
            name = re.search(r"<figcaption>(.*?)<", figure)
            encoded = re.findall(r"base64,([^\"]+)", figure)
            assert name is not None
            self.pictures[name[1]] = [decoded(content) for content in encoded]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.sources += [str(value) for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def decoded(content: str) -> np.ndarray:
    encoded = np.frombuffer(base64.b64decode(content), np.uint8)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB))


def test_the_worst_are_named_in_order(found: Judged, card: Path) -> None:
    worst = found.offenders.worst
    assert [(o.file_name, o.code) for o in worst[:3]] == [
        ("train_00005.jpg", "too-many-boxes"),
        (HOSTILE_FILE, "ok"),
        ("train_00003.jpg", "size-mismatch"),
    ]
    assert worst[1].faulty == worst[1].box_codes.count("duplicate-box") == 6
    assert not len(worst[0].boxes_xyxy)
    words = Page(card / "index.html").words
    assert f"duplicate-box: {HOSTILE} (6)" in words
    assert "too-many-boxes: left out, with all its boxes; none is drawn" in words
    assert "3 images quarantined" in words
    assert "train_00004.jpg" in words


def test_a_duplicate_is_drawn_dashed_where_it_lies(
    damaged: Path, found: Judged, card: Path
) -> None:
    offender = found.offenders.worst[1]
    corners = offender.boxes_xyxy[offender.box_codes.index("duplicate-box")]
    height, width = cv2.imread(str(damaged / "images" / HOSTILE_FILE)).shape[:2]
    placed = Letterbox((height, width), SIDE_PX).to_square(corners)
    x1, y1, x2, y2 = np.round(placed).astype(int).tolist()
    pictures = Page(card / "index.html").pictures
    drawn = pictures["train/&lt;img src=x onerror=alert(1)&gt;.jpg"][0]
    # a JPEG halves the resolution of colours: thin lines lose some of theirs
    dashed = np.abs(drawn.astype(int) - COLORS["dashed"][0]).sum(axis=-1) < 120
    ring = np.zeros((SIDE_PX, SIDE_PX), bool)
    ring[y1:y2, x1:x2] = True
    ring[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3] = False
    assert dashed[ring].mean() > 0.05
    assert dashed[~ring].mean() < 0.001


def test_images_of_two_splits_stand_side_by_side(card: Path) -> None:
    page = Page(card / "index.html")
    pair = page.pictures["train/train_00006.jpg and test/test_00001.jpg"]
    assert len(pair) == 2
    assert np.abs(pair[0][:280].astype(int) - pair[1][:280]).mean() < 1
    assert "no-leak: the same file in two splits" in page.words


def test_names_are_text_and_nothing_is_loaded(card: Path) -> None:
    page = Page(card / "index.html")
    assert "script" not in page.elements
    assert page.words.count(HOSTILE) >= 5 + 1 + 1  # samples, remark, class
    assert HOSTILE_FILE in page.words
    assert page.sources
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in page.sources)


def test_counts_stand_on_the_card(found: Judged, card: Path) -> None:
    words = " ".join(Page(card / "index.html").words.split())
    counts = found.counts
    keys = ("used", "repaired", "dropped")
    assert counts["boxes_in"] == sum(counts[f"boxes_{key}"] for key in keys)
    assert f"in {counts['images_in']} {counts['boxes_in']}" in words
    assert f"used {counts['images_used']} {counts['boxes_used']}" in words


def test_equal_data_gives_equal_bytes(found: Judged, card: Path, tmp_path: Path) -> None:
    (tmp_path / "judged").symlink_to(card.parent / "judged")
    again = make_card(found, tmp_path, sample=HOSTILE)
    names = sorted(path.name for path in card.iterdir())
    assert names == ["box_sizes.png", "classes.png", "index.html", "offenders.jpg"]
    for name in names:
        assert (again / name).read_bytes() == (card / name).read_bytes(), name


def told(worst: list[Offender]) -> list[Any]:
    return [offender._replace(boxes_xyxy=offender.boxes_xyxy.tolist()) for offender in worst]


def test_shards_make_no_difference(
    found: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flags, "BATCH", 3)
    (tmp_path / "judged").mkdir()
    again = Judged(found.catalog, tmp_path / "judged", LIMITS).offenders.worst
    assert told(again) == told(found.offenders.worst)


def no_boxes(folder: Path) -> None:
    for split in ("train", "val", "test"):
        write(folder, split, changed(folder, split) | {"annotations": []})


def no_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")


def test_a_dataset_without_boxes(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path)
    no_boxes(folder)
    made = make_card(judge(folder, tmp_path), tmp_path)
    assert "No box is used" in Page(made / "index.html").words
    assert sorted(path.name for path in made.iterdir()) == ["classes.png", "index.html"]


def test_a_dataset_without_readable_images(pristine: Path, tmp_path: Path) -> None:
    folder = copied(pristine, tmp_path)
    no_images(folder)
    made = make_card(judge(folder, tmp_path), tmp_path)
    words = Page(made / "index.html").words
    assert "None: no image that can be read" in words
    assert "14 images quarantined" in words
    assert sorted(path.name for path in made.iterdir()) == ["classes.png", "index.html"]
