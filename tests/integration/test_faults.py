"""Faults put into a sound dataset one kind at a time: each is found under its code, and only it."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from frontier.data.formats.coco import Coco
from frontier.data.generated import synthetic
from frontier.data.intake.assembly import Source, assemble
from frontier.data.verdict.judged import Judged
from frontier.data.verdict.rules import rules
from frontier.params import Synthetic, load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
LIMITS = PARAMS.validate_.model_copy(update={"min_boxes_per_class": 1})
WORKERS = PARAMS.workers.model_copy(update={"jobs": 1})
SMALL = Synthetic(seed=3, train=24, val=12, test=12, unlabelled=0)
REAL = Path(__file__).parents[2].parent / "shared" / "data"

Content = dict[str, Any]
Fault = Callable[[Content, Path], Any]


class Checked:
    """A dataset taken in and judged: how many rows break each rule, and what became of what."""

    def __init__(
        self,
        folder: Path,
        work: Path,
        unlabelled: Path | None = None,
        **changed: Any,
    ) -> None:
        catalog, judged, spools = work / "catalog", work / "judged", work / "spools"
        judged.mkdir(parents=True)
        spools.mkdir()
        root = str(Coco().image_root(folder))
        source = Source("mine", "mine", Coco(), folder, root, unlabelled, str(unlabelled))
        ingest = PARAMS.ingest.model_copy(update=changed)
        assemble(source, catalog, spools, ingest, WORKERS, 0)
        found = Judged(catalog, judged, LIMITS)
        tables = found.tables()
        self.counts = found.counts
        self.broken: dict[str, int] = {}
        for rule in rules(LIMITS, opened=found.info["images_checked"]):
            column = tables[rule.table][rule.column]
            counted = column.sum() if rule.table == "records" else (column > rule.limit).sum()
            self.broken[rule.code] = int((~column).sum() if rule.share is not None else counted)
        self.images = pq.read_table(judged / "images.parquet").to_pylist()
        self.boxes = pq.read_table(judged / "boxes.parquet").to_pylist()

    def beyond(self, sound: "Checked") -> set[str]:
        """The codes that are broken more often than in a sound dataset."""
        return {code for code, amount in self.broken.items() if amount > sound.broken.get(code, 0)}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "mine"
    folder.mkdir()
    synthetic.write_coco(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def sound(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return Checked(pristine, tmp_path_factory.mktemp("sound"))


def put(folder: Path, fault: Fault, split: str = "train") -> None:
    path = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    replaced = fault(content, folder)
    if isinstance(replaced, bytes):
        path.write_bytes(replaced)
    else:
        path.write_text(json.dumps(content))


def stated(folder: Path, split: str, key: str) -> Any:
    """Of a file that can be read by other means."""
    try:
        path = folder / "annotations" / f"instances_{split}.json"
        return len(json.loads(path.read_text())[key])
    except (ValueError, RecursionError):
        return None


def change(place: str, at: int, **values: Any) -> Fault:
    return lambda content, folder: content[place][at].update(values)


def without(place: str, at: int, key: str) -> Fault:
    return lambda content, folder: content[place][at].pop(key)


def boxed(*bbox: float) -> Fault:
    """Give a further box to the first image."""

    def fault(content: Content, folder: Path) -> None:
        last = content["annotations"][0]
        content["annotations"].append(last | {"id": 10**6, "bbox": [*bbox]})

    return fault


def again(list_name: str, **values: Any) -> Fault:
    return lambda content, folder: content[list_name].append(content[list_name][0] | values)


def corners(content: Content, folder: Path) -> None:
    for box in content["annotations"]:
        x, y, w, h = box["bbox"]
        box["bbox"] = [x, y, x + w, y + h]


def centres(content: Content, folder: Path) -> None:
    for box in content["annotations"]:
        x, y, w, h = box["bbox"]
        box["bbox"] = [x + w / 2, y + h / 2, w, h]


def replaced(old: str, new: str) -> Fault:
    def fault(content: Content, folder: Path) -> bytes:
        text = json.dumps(content)
        assert old in text
        return text.replace(old, new, 1).encode()

    return fault


def cut(content: Content, folder: Path) -> bytes:
    return json.dumps(content).encode()[:-40]


def endless(content: Content, folder: Path) -> bytes:
    return json.dumps(content).encode()[:-1] + b', "more": ' + b"[" * 200_000


def latin(content: Content, folder: Path) -> bytes:
    return json.dumps(content).encode().replace(b"train_00005", b"tr\xe9n_00005")


RECORDS: dict[str, tuple[Fault, set[str]]] = {
    "category without id": (without("categories", 7, "id"), {"missing-field", "unknown-category"}),
    "category without name": (
        without("categories", 7, "name"),
        {"missing-field", "unknown-category"},
    ),
    "image without id": (without("images", 5, "id"), {"missing-field", "unknown-image"}),
    "image without name": (without("images", 5, "file_name"), {"missing-field"}),
    "image without width": (without("images", 5, "width"), {"missing-size"}),
    "image without height": (without("images", 5, "height"), {"missing-size"}),
    "box without id": (without("annotations", 5, "id"), {"missing-field"}),
    "box without image": (without("annotations", 5, "image_id"), {"missing-field"}),
    "box without category": (without("annotations", 5, "category_id"), {"missing-field"}),
    "box without bbox": (without("annotations", 5, "bbox"), {"missing-field"}),
    "text for a number": (change("annotations", 5, bbox=["1", 2, 3, 4]), {"wrong-type"}),
    "three numbers": (change("annotations", 5, bbox=[1, 2, 3]), {"wrong-type"}),
    "text for an id": (change("annotations", 5, image_id="five"), {"wrong-type"}),
    "null": (change("annotations", 5, bbox=None), {"wrong-type"}),
    "not a number": (change("annotations", 5, bbox=[1, 2, float("nan"), 4]), {"not-finite"}),
    "infinity": (change("annotations", 5, bbox=[1, 2, float("inf"), 4]), {"not-finite"}),
    "1e999": (replaced('"area": ', '"bbox": [1e999, 1, 2, 3], "area": '), {"duplicate-key"}),
    "half of a pair": (change("images", 5, file_name="\ud800.jpg"), {"not-text"}),
    "box id twice": (again("annotations", bbox=[1, 1, 9, 9]), {"duplicate-id"}),
    "image id twice": (again("images", file_name="train_00002.jpg"), {"duplicate-id"}),
    "category id twice": (again("categories", name="other"), {"duplicate-id"}),
    "class name twice": (again("categories", id=77), {"duplicate-class"}),
    "no such image": (change("annotations", 5, image_id=12345), {"unknown-image"}),
    "no such category": (change("annotations", 5, category_id=99), {"unknown-category"}),
    "class of another name": (change("categories", 2, name="other"), {"class-conflict"}),
    "key twice": (replaced('"iscrowd"', '"id": 9, "iscrowd"'), {"duplicate-key"}),
    "list twice": (replaced('"images"', '"categories": [], "images"'), {"duplicate-key"}),
    "cut off": (cut, {"broken-file", "unknown-image"}),
    "nested": (endless, {"broken-file"}),
    "not UTF-8": (latin, {"not-text"}),
    "upwards": (change("images", 5, file_name="../../x.jpg"), {"unsafe-path", "images-usable"}),
    "absolute": (change("images", 5, file_name="/etc/passwd"), {"unsafe-path", "images-usable"}),
    "no area": (boxed(20, 20, 0, 10), {"degenerate-box"}),
    "negative": (boxed(60, 60, -5, 10), {"degenerate-box"}),
    "outside": (boxed(5000, 5000, 9, 9), {"degenerate-box"}),
    "half outside": (boxed(-10, 20, 30, 30), {"out-of-image"}),
    "corners for sizes": (corners, {"box-numbers", "out-of-image", "size-drift"}),
    "centres for corners": (centres, {"box-numbers", "out-of-image"}),
    "stretched": (boxed(1, 50, 130, 4), {"extreme-aspect"}),
    "tiny": (boxed(50, 50, 1.5, 1.5), {"suspicious-box"}),
    "another size": (change("images", 5, width=99), {"images-usable"}),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_fault_of_annotations(pristine: Path, sound: Checked, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    fault, codes = RECORDS[name]
    put(folder, fault)
    checked = Checked(folder, tmp_path)
    assert checked.beyond(sound) - {"class-examples", "class-everywhere"} == codes
    counts = checked.counts
    outcomes = Counter(image["outcome"] for image in checked.images)
    assert outcomes["used"] == counts["images_used"]
    assert outcomes["quarantined"] == counts["images_quarantined"] - counts["images_refused"]
    for key in ("used", "repaired", "dropped"):
        refused = counts["boxes_refused"] if key == "dropped" else 0
        assert sum(image[key] for image in checked.images) == counts[f"boxes_{key}"] - refused
    assert counts["images_in"] == counts["images_used"] + counts["images_quarantined"]
    assert counts["boxes_in"] == sum(counts[f"boxes_{k}"] for k in ("used", "repaired", "dropped"))
    for name, key in (("images_in", "images"), ("boxes_in", "annotations")):
        amounts = [stated(folder, split, key) for split in ("train", "val", "test")]
        assert None in amounts or counts[name] == sum(amounts)


def test_what_is_no_fault(pristine: Path, sound: Checked, tmp_path: Path) -> None:
    """Crowds, gaps in ids, images without boxes, a byte order mark, names of any script."""
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))

    def odd(content: Content, folder: Path) -> bytes:
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["id"] = 10**12
        own = content["images"][3]
        (folder / "images" / own["file_name"]).rename(folder / "images" / "crème 骰子.jpg")
        own["file_name"] = "crème 骰子.jpg"
        return b"\xef\xbb\xbf" + json.dumps(content, ensure_ascii=False).encode()

    put(folder, odd)
    assert Checked(folder, tmp_path).beyond(sound) == set()


def rewrite(name: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.open(path).convert(name).save(path, **options)


def as_png(path: Path) -> None:
    Image.open(path).save(path, "PNG")


def turned(path: Path) -> None:
    image = Image.open(path)
    exif = image.getexif()
    exif[0x0112] = 3
    image.save(path, exif=exif, quality=95)


def bomb(path: Path) -> None:
    Image.new("1", (13_000, 13_000)).save(path, "PNG")


def sixteen_bit(path: Path) -> None:
    grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path, "PNG")


def with_alpha(path: Path) -> None:
    image = Image.open(path).convert("RGBA")
    image.putalpha(128)
    image.save(path, "PNG")


def animated(path: Path) -> None:
    image = Image.open(path)
    image.save(path, "WEBP", save_all=True, append_images=[image.rotate(180)], lossless=True)


def flipped_bit(path: Path) -> None:
    as_png(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tail_less(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-800])


FILES: dict[str, tuple[Callable[[Path], Any], set[str], str]] = {
    "gone": (Path.unlink, {"images-usable"}, "missing"),
    "empty": (lambda path: path.write_bytes(b""), {"images-usable"}, "empty"),
    "text": (lambda path: path.write_text("<html>404</html>"), {"images-usable"}, "not-an-image"),
    "truncated": (tail_less, {"images-usable"}, "truncated"),
    "bomb": (bomb, {"images-usable"}, "too-many-pixels"),
    "device": (lambda path: (path.unlink(), os.mkfifo(path)), {"images-usable"}, "unreadable"),
    "link": (
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        {"images-usable", "unsafe-path"},
        "unsafe-path",
    ),
    "cmyk": (rewrite("CMYK", quality=95), {"cmyk"}, "ok"),
    "png named jpg": (as_png, {"wrong-extension"}, "ok"),
    "sixteen-bit": (sixteen_bit, {"wrong-extension", "sixteen-bit"}, "ok"),
    "alpha": (with_alpha, {"wrong-extension", "alpha"}, "ok"),
    "animated": (animated, {"wrong-extension", "animated", "alpha"}, "ok"),
    "one bit": (flipped_bit, {"images-usable"}, "corrupt"),
    "turned": (turned, {"exif-rotated"}, "ok"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_fault_of_files(pristine: Path, sound: Checked, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    fault, codes, code = FILES[name]
    fault(folder / "images" / "train_00004.jpg")
    checked = Checked(folder, tmp_path)
    assert checked.beyond(sound) - {"class-examples", "class-everywhere"} == codes
    (image,) = [row for row in checked.images if row["file_name"] == "train_00004.jpg"]
    assert image["code"] == code
    assert image["outcome"] == ("used" if code == "ok" else "quarantined")


def copied(source: str, target: str, **options: Any) -> Fault:
    def fault(content: Content, folder: Path) -> None:
        path = folder / "images" / target
        if options:
            Image.open(folder / "images" / source).save(path, **options)
        else:
            shutil.copy(folder / "images" / source, path)
        for image in content["images"]:
            if image["file_name"] == target:
                image["width"], image["height"] = Image.open(path).size

    return fault


def rescaled(content: Content, folder: Path) -> None:
    """Every box of a split a quarter as large."""
    for box in content["annotations"]:
        x, y, w, h = box["bbox"]
        box["bbox"] = [x, y, w / 4, h / 4]


def of_one_class(content: Content, folder: Path) -> None:
    for box in content["annotations"]:
        box["category_id"] = content["categories"][0]["id"]


SPLITS: dict[str, tuple[Fault, str, set[str]]] = {
    "same file": (copied("train_00001.jpg", "test_00002.jpg"), "test", {"no-leak"}),
    "look-alike": (
        copied("train_00001.jpg", "test_00002.jpg", quality=60),
        "test",
        {"no-near-leak"},
    ),
    "copy within": (copied("train_00001.jpg", "train_00002.jpg"), "train", {"no-copies"}),
    "smaller boxes": (rescaled, "test", {"size-drift"}),
    "corners in one": (corners, "val", {"box-numbers", "size-drift"}),
    "one class": (of_one_class, "test", {"class-drift"}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_a_fault_of_splits(pristine: Path, sound: Checked, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    fault, split, codes = SPLITS[name]
    put(folder, fault, split)
    beyond = Checked(folder, tmp_path).beyond(sound)
    assert beyond - {"class-everywhere", "out-of-image", "suspicious-box"} == codes


def test_a_leak_is_found_behind_a_quarantined_copy(
    pristine: Path, sound: Checked, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    for split in ("val", "test"):
        put(folder, copied("train_00001.jpg", f"{split}_00002.jpg"), split)
    put(folder, change("images", 1, width=99))
    assert Checked(folder, tmp_path).beyond(sound) >= {"images-usable", "no-leak"}


def test_a_copy_among_the_unlabelled_is_a_leak(
    pristine: Path, sound: Checked, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    (folder / "unlabelled").mkdir(exist_ok=True)
    shutil.copy(folder / "images" / "val_00002.jpg", folder / "unlabelled" / "own.jpg")
    checked = Checked(folder, tmp_path, unlabelled=folder / "unlabelled")
    assert checked.beyond(sound) == {"no-leak"}


def test_made_splits_divide_no_scene(pristine: Path, sound: Checked, tmp_path: Path) -> None:
    """Also where the unlabelled images show what train shows."""
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    for split in ("val", "test"):
        (folder / "annotations" / f"instances_{split}.json").unlink()
    (folder / "unlabelled").mkdir(exist_ok=True)
    for i in range(8):
        shutil.copy(folder / "images" / f"train_{i:05d}.jpg", folder / "unlabelled")
    put(folder, copied("train_00010.jpg", "train_00011.jpg", quality=60))
    checked = Checked(folder, tmp_path, unlabelled=folder / "unlabelled")
    assert not checked.beyond(sound) & {"no-leak", "no-near-leak"}
    split = {row["file_name"]: row["split"] for row in checked.images if row["boxes"]}
    assert split["train_00010.jpg"] == split["train_00011.jpg"]
    assert sorted(set(split.values())) == ["test", "train", "val"]


@pytest.mark.parametrize("lost", [b"{broken", b'{"images": [], "annotations": []}'])
def test_a_dataset_without_images_is_judged(pristine: Path, tmp_path: Path, lost: bytes) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    for split in ("train", "val", "test"):
        (folder / "annotations" / f"instances_{split}.json").write_bytes(lost)
    assert Checked(folder, tmp_path).broken["split-filled"] == 3


def test_names_are_made_sure_of_where_images_are_not_opened(
    pristine: Path, sound: Checked, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    put(folder, change("images", 5, file_name="../../../../etc/passwd"))
    put(folder, without("images", 5, "width"), "val")
    checked = Checked(folder, tmp_path, check_images=False)
    assert checked.beyond(sound) >= {"unsafe-path", "images-usable", "missing-size"}
    assert checked.counts["images_quarantined"] == 2


def test_a_file_listed_twice_is_a_leak_where_images_are_not_opened(
    pristine: Path, sound: Checked, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    put(folder, change("images", 2, file_name="train_00001.jpg"), "val")
    (folder / "images" / "val_00002.jpg").unlink()  # else it is in no record
    checked = Checked(folder, tmp_path, check_images=False)
    assert checked.beyond(sound) == {"no-leak"}
    assert "no-near-leak" not in checked.broken  # not judged, and so not met either


def test_no_boxes_at_all(pristine: Path, sound: Checked, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pristine, tmp_path / "mine"))
    put(folder, lambda content, folder: content.update(annotations=[]))
    checked = Checked(folder, tmp_path)
    assert checked.beyond(sound) == {
        *("split-filled", "empty-images", "class-examples", "class-everywhere")
    }


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos beside the checkout")
def test_the_faults_once_found_in_blood_smears(tmp_path: Path) -> None:
    """Two boxes without area and seven duplicates, as the source had them."""
    folder = Path(shutil.copytree(REAL / "bccd", tmp_path / "mine"))
    before = Checked(folder, tmp_path / "before")

    def fault(content: Content, folder: Path) -> None:
        boxes = content["annotations"]
        chosen = np.random.default_rng(0).choice(len(boxes), 9, replace=False)
        for number, i in enumerate(chosen.tolist()):
            x, y, w, h = boxes[i]["bbox"]
            bbox = [x, y, w, h] if number < 7 else [x, y, 0, 0]
            boxes.append(boxes[i] | {"id": 10**7 + number, "bbox": bbox})

    put(folder, fault)
    after = Checked(folder, tmp_path / "after")
    assert after.beyond(before) == {"degenerate-box", "duplicate-box"}
    assert after.counts["boxes_dropped"] == before.counts["boxes_dropped"] + 9
    added = after.boxes[len(before.boxes) :] if not before.boxes else after.boxes
    codes = [row["code"] for row in added]
    assert (codes.count("duplicate-box"), codes.count("degenerate-box")) == (7, 2)
