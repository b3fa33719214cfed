"""ingest, validate and pack on small folders with planted faults."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from frontier.data.catalog import Catalog
from frontier.data.exports.exporting import export
from frontier.data.generated import synthetic
from frontier.data.intake import assembly
from frontier.data.loading import storing
from frontier.data.loading.packing import load_meta, load_split
from frontier.errors import DataError
from frontier.files import read_json, sha256
from frontier.params import Pack, Run, Synthetic, SyntheticPretrain, Validate, Workers, load_params
from frontier.stages import Inputs, ingest, pack, validate

SMALL = Synthetic(seed=3, train=14, val=4, test=4, unlabelled=3)
COMMITTED = load_params(Path(__file__).parents[2] / "params.yaml")
WORKERS = COMMITTED.workers.model_copy(update={"jobs": 1})
RUN = Run(seed=0, threads=1, device="cpu", precision="float32", compile="auto", loader_workers=1)
REAL = Path(__file__).parents[2].parent / "shared" / "data"


def run_ingest(
    root: Path, source: str = "data", workers: Workers = WORKERS, **changed: Any
) -> dict[str, float]:
    changed |= {"source": source, "synthetic": SMALL}
    changed = {"pretrain": SyntheticPretrain(source="synthetic", seed=1, train=2)} | changed
    section = COMMITTED.ingest.model_copy(update=changed)
    out = root / "data" / "ingest"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    params = ingest.Params(run=RUN, ingest=section, workers=workers)
    return ingest.run(params, inputs(root), out)


def run_validate(root: Path, **changed: float) -> dict[str, float]:
    limits = COMMITTED.validate_.model_dump() | {"min_boxes_per_class": 1} | changed
    out = root / "data" / "validate"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    section = Validate.model_validate(limits)
    return validate.run(validate.Params(run=RUN, validate=section), inputs(root), out)


def run_pack(root: Path, workers: Workers = WORKERS, store: str = "auto") -> dict[str, float]:
    out = root / "data" / "pack"
    section = Pack(image_size=64, holdout=0.25, store=store)
    params = pack.Params(run=RUN, pack=section, workers=workers)
    return pack.run(params, inputs(root), out)


def inputs(root: Path) -> Inputs:
    work = root / ".work"
    work.mkdir(exist_ok=True)
    return Inputs(root, ("data/ingest", "data/validate"), None, work)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "mine"
    folder.mkdir()
    synthetic.write_coco(folder, SMALL)
    return folder


@pytest.fixture
def mine(pristine: Path, tmp_path: Path) -> Path:
    """A sound COCO folder at <tmp>/mine, for the test to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "mine"))


def found_problems(root: Path) -> list[dict[str, Any]]:
    return list(
        pq.read_table(root / "data" / "ingest" / "catalog" / "problems.parquet").to_pylist()
    )


def edit(mine: Path, split: str) -> tuple[Path, dict[str, Any]]:
    path = mine / "annotations" / f"instances_{split}.json"
    return path, json.loads(path.read_text())


def test_the_embedded_data_passes_whole_and_again_alike(tmp_path: Path) -> None:
    found = run_ingest(tmp_path, "synthetic")
    assert found["images"] == 14 + 4 + 4 + 3
    assert found["pretrain_images"] == 2
    first = {p: sha256(p) for p in (tmp_path / "data").rglob("*") if p.is_file()}
    run_ingest(tmp_path, "synthetic")
    assert first == {p: sha256(p) for p in first}
    counts = run_validate(tmp_path)
    assert counts["images_used"] == counts["images_in"] == 25
    packed = run_pack(tmp_path)
    assert packed["holdout"] == 3
    main = tmp_path / "data" / "pack" / "main"
    assert load_meta(main).splits == {
        "train": 11,
        "holdout": 3,
        "val": 4,
        "test": 4,
        "unlabelled": 3,
    }
    train, held = load_split(main, "train"), load_split(main, "holdout")
    assert not set(train.image_ids) & set(held.image_ids)
    assert len(load_split(main, "unlabelled").labels) == 0
    assert load_split(tmp_path / "data" / "pack" / "pretrain", "train").num_classes == 16


def test_data_docs_need_no_network(tmp_path: Path, mine: Path) -> None:
    run_ingest(tmp_path, "mine")
    run_validate(tmp_path)
    pages = list((tmp_path / "data" / "validate").rglob("*.html"))
    assert len(pages) >= 12
    assert tmp_path / "data" / "validate" / "card" / "index.html" in pages
    for page in pages:
        loaded = re.findall(r"<(?:link|script|img)[^>]*https?://[^>]*>", page.read_text())
        assert loaded == []


def test_a_truncated_image_is_quarantined_and_the_run_goes_on(tmp_path: Path, mine: Path) -> None:
    victim = mine / "images" / "train_00003.jpg"
    victim.write_bytes(victim.read_bytes()[:-800])
    assert run_ingest(tmp_path, "mine/annotations/instances_train.json")["unreadable"] == 1
    (problem,) = found_problems(tmp_path)
    assert problem["message"].startswith("images/train_00003.jpg: ")
    counts = run_validate(tmp_path)
    assert counts["images_quarantined"] == 1
    verdict = read_json(tmp_path / "data" / "validate" / "judged" / "verdict.json")
    entry = {"split": "train", "image_id": 4, "file_name": victim.name, "code": "truncated"}
    assert verdict["quarantined"] == [entry]
    assert run_pack(tmp_path)["train"] == 13 - 3
    with pytest.raises(DataError, match=r"train/train_00003\.jpg is unusable: truncated"):
        run_validate(tmp_path, max_quarantined=0.02)
    assert not read_json(tmp_path / "data" / "validate" / "judged" / "verdict.json")["passed"]


def test_planted_faults_are_all_listed(tmp_path: Path, mine: Path) -> None:
    path, content = edit(mine, "train")
    boxes = content["annotations"]
    boxes[0]["category_id"] = 99
    boxes[1]["image_id"] = 12345
    del boxes[2]["bbox"]
    boxes[3]["bbox"][2] = float("nan")
    boxes[4]["id"] = boxes[5]["id"]
    content["images"][6]["file_name"] = "../../outside.jpg"
    path.write_text(json.dumps(content))
    other, content = edit(mine, "test")
    content["categories"][0]["name"] = "something else"
    content["annotations"][0]["category_id"] = 77
    other.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine")
    problems = found_problems(tmp_path)
    with pytest.raises(DataError) as caught:
        run_validate(tmp_path)
    assert caught.value.exit_code == 65
    planted = ("unknown-category", "unknown-image", "missing-field", "not-finite", "duplicate-id")
    for code in (*planted, "unsafe-path", "class-conflict"):
        assert any(p["code"] == code for p in problems), code
        assert any(line.startswith(code) for line in caught.value.problems), code
    text = str(caught.value)
    assert "99" in text
    assert "77" in text
    assert len(caught.value.problems) == len([p for p in problems if p["severity"] == "critical"])


def test_odd_boxes_are_repaired_or_dropped_and_counted(tmp_path: Path, mine: Path) -> None:
    path, content = edit(mine, "train")
    image, template = content["images"][0], content["annotations"][0]
    width, height = image["width"], image["height"]
    content["annotations"] = [b for b in content["annotations"] if b["image_id"] != image["id"]]
    odd = [
        [10, 10, 40, 40],
        [10, 10, 40, 40.5],  # the same again
        [width - 20, 10, 40, 40],  # clipped
        [20, 20, 0, 10],  # no area
        [width + 5, height + 5, 10, 10],  # outside
        [60, 10, -5, 10],  # negative
    ]
    for i, bbox in enumerate(odd):
        own = {"id": 9000 + i, "image_id": image["id"], "category_id": 1, "bbox": bbox}
        content["annotations"].append({**template, **own})
    path.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine")
    counts = run_validate(tmp_path)
    assert counts["boxes_repaired"] == 1
    assert counts["boxes_dropped"] == 4
    folder = tmp_path / "data"
    catalog = Catalog.load(folder / "ingest" / "catalog", folder / "validate" / "judged")
    boxes = catalog.split("train").targets(0)[0]
    assert counts["boxes_in"] == counts["boxes_used"] + 1 + 4
    assert boxes.tolist() == [[10, 10, 50, 50], [width - 20, 10, width, 50]]
    used = sum(len(catalog.split(name).labels) for name in ("train", "val", "test"))
    assert used == counts["boxes_used"] + counts["boxes_repaired"]


def test_an_image_in_train_and_test_is_a_leak(tmp_path: Path, mine: Path) -> None:
    shutil.copy(mine / "images" / "train_00001.jpg", mine / "images" / "test_00002.jpg")
    run_ingest(tmp_path, "mine")
    text = r"train/train_00001\.jpg and test/test_00002\.jpg: one is the same file in another split"
    with pytest.raises(DataError, match=text):
        run_validate(tmp_path, max_quarantined=1.0)
    page = (tmp_path / ".work" / "card" / "index.html").read_text()
    assert "train/train_00001.jpg and test/test_00002.jpg" in page  # it outlives the failure


def test_corners_instead_of_sizes_are_noticed(tmp_path: Path, mine: Path) -> None:
    for split in ("train", "val", "test"):
        path, content = edit(mine, split)
        for box in content["annotations"]:
            x, y, w, h = box["bbox"]
            box["bbox"] = [x, y, x + w, y + h]
        path.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine")
    with pytest.raises(DataError, match="x1, y1, x2, y2"):
        run_validate(tmp_path)


def test_missing_splits_are_taken_from_train(tmp_path: Path, mine: Path) -> None:
    for split in ("val", "test"):
        (mine / "annotations" / f"instances_{split}.json").unlink()
        for image in (mine / "images").glob(f"{split}_*"):
            image.unlink()
    run_ingest(tmp_path, "mine", unlabelled="mine/unlabelled")
    catalog = Catalog.load(tmp_path / "data" / "ingest" / "catalog")
    sizes = {name: len(catalog.split(name)) for name in catalog.splits}
    assert sizes == {"train": 10, "val": 2, "test": 2, "unlabelled": 3}
    assert catalog.split("unlabelled").image_path(0).is_file()
    assert [p["code"] for p in found_problems(tmp_path)] == ["split-made"] * 2


def test_gaps_in_category_ids_and_images_without_boxes(tmp_path: Path, mine: Path) -> None:
    for split in ("train", "val", "test"):
        path, content = edit(mine, split)
        for category in content["categories"]:
            category["id"] = category["id"] * 10
        for box in content["annotations"]:
            box["category_id"] *= 10
        first = content["images"][0]["id"]
        content["annotations"] = [b for b in content["annotations"] if b["image_id"] != first]
        path.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine")
    catalog = Catalog.load(tmp_path / "data" / "ingest" / "catalog")
    assert [c["category_id"] for c in catalog.classes] == list(range(10, 90, 10))
    split = catalog.split("train")
    assert len(split.targets(0)[1]) == 0
    assert len(split) == 14
    assert set(np.unique(split.labels)) <= set(range(8))
    coco = read_json(catalog.folder / "annotations" / "instances_train.json")
    by_name = {c["id"]: c["name"] for c in coco["categories"]}
    assert by_name[10] == "disc"


def test_many_faults_take_little_time(tmp_path: Path, mine: Path) -> None:
    path, content = edit(mine, "train")
    first = content["annotations"][0] | {"image_id": 10**6, "category_id": 99}
    content["annotations"] = [first | {"id": i // 2} for i in range(30_000)]
    path.write_text(json.dumps(content))
    started = time.process_time()
    run_ingest(tmp_path, "mine", check_images=False)
    assert time.process_time() - started < 5
    where = [p["where"] for p in found_problems(tmp_path)]
    assert len(where) == 30_000 * 2 + 15_000
    assert where[-1] == "train annotation 14999 (line 1)"


def test_images_that_no_record_names_are_counted(tmp_path: Path, mine: Path) -> None:
    (mine / "images" / "deep").mkdir()
    for name in ("extra.JPG", "deep/extra.tif", "deep/notes.txt"):
        shutil.copy(mine / "images" / "train_00001.jpg", mine / "images" / name)
    path, content = edit(mine, "train")
    content["images"][0]["file_name"] = "./" + content["images"][0]["file_name"]
    path.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine", unlabelled="mine/unlabelled")
    (problem,) = found_problems(tmp_path)
    assert (problem["code"], problem["severity"]) == ("unlisted-image", "warning")
    assert problem["message"].startswith("2 image files are in no record, such as 'extra.JPG'")
    content["images"][1]["file_name"] = "../outside.jpg"  # its file is one more without a record
    path.write_text(json.dumps(content))
    run_ingest(tmp_path, "mine")
    assert [p["code"] for p in found_problems(tmp_path)] == ["unsafe-path"]


def test_a_class_name_with_two_ids_is_told_as_such(tmp_path: Path) -> None:
    for name in ("images/train/a.jpg", "labels/train/a.txt"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).touch()
    (tmp_path / "mine" / "data.yaml").write_text("names: [b, a, a]\n")
    run_ingest(tmp_path, "mine")
    (problem,) = [p for p in found_problems(tmp_path) if p["code"] == "class-conflict"]
    assert problem["message"] == "class 'a' has ids 1 and 2; rename one, or join the two"


def test_what_yolo_leaves_out_is_in_the_account(tmp_path: Path, mine: Path) -> None:
    run_ingest(tmp_path, "mine")
    run_validate(tmp_path)
    folder = tmp_path / "data"
    catalog = Catalog.load(folder / "ingest" / "catalog", folder / "validate" / "judged")
    export(catalog, tmp_path / "yolo", "yolo")
    labels = tmp_path / "yolo" / "labels" / "train"
    stated = sum(len(p.read_text().splitlines()) for p in (tmp_path / "yolo").rglob("*/*/*.txt"))
    for name in ("orphan", "scan"):
        (labels / f"{name}.txt").write_text("0 .5 .5 .1 .1\n0 .5 .5 .2 .2\n")
    (tmp_path / "yolo" / "images" / "train" / "scan.tif").write_bytes(b"II*\0")
    run_ingest(tmp_path, "yolo")
    counts = run_validate(tmp_path, max_quarantined=0.2)
    assert (counts["images_in"], counts["images_quarantined"]) == (14 + 4 + 4 + 1, 1)
    assert (counts["boxes_in"], counts["boxes_dropped"]) == (stated + 4, 4)
    codes = {p["code"] for p in found_problems(tmp_path)}
    assert {"orphan-label", "unsupported-image"} <= codes


def test_files_that_are_not_json_are_all_named(tmp_path: Path, mine: Path) -> None:
    for split in ("train", "test"):
        (mine / "annotations" / f"instances_{split}.json").write_text("{broken")
    run_ingest(tmp_path, "mine")
    with pytest.raises(DataError) as caught:
        run_validate(tmp_path)
    broken = [line for line in caught.value.problems if line.startswith("broken-file")]
    assert len(broken) == 2
    assert "split-filled" in caught.value.summary


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real photos beside the checkout")
def test_blood_smears_are_counted_right(tmp_path: Path) -> None:
    run_ingest(tmp_path, str(REAL / "bccd"))
    catalog = Catalog.load(tmp_path / "data" / "ingest" / "catalog")
    sizes = {s: (len(catalog.split(s)), len(catalog.split(s).labels)) for s in catalog.splits}
    assert sizes == {"train": (205, 2800), "val": (87, 1135), "test": (72, 944)}
    assert [c["name"] for c in catalog.classes] == ["RBC", "WBC", "Platelets"]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["array", "shards"])
def test_a_cluster_writes_the_same_files(
    store: str, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(assembly, "OPENED", 4)
    monkeypatch.setattr(storing, "ARRAY_ROWS", 3)
    (mine / "images" / edit(mine, "train")[1]["images"][2]["file_name"]).write_bytes(b"")
    names = ("ingest", "validate/judged", "pack")
    written = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        away = Workers(backend="dask", jobs=1, address=cluster.scheduler_address)
        for workers in (WORKERS, away):
            shutil.rmtree(tmp_path / "data", ignore_errors=True)
            run_ingest(tmp_path, str(mine), workers)
            run_validate(tmp_path, max_quarantined=0.2)
            run_pack(tmp_path, workers, store)
            files = (p for name in names for p in (tmp_path / "data" / name).rglob("*"))
            written.append({p: sha256(p) for p in files if p.is_file()})
    assert any(path.suffix == ".arrow" for path in written[0]) == (store == "shards")
    assert written[0] == written[1]


def test_a_folder_can_be_the_pretraining_set(tmp_path: Path, mine: Path) -> None:
    synthetic.write_objects365(
        tmp_path / "large", SyntheticPretrain(source="synthetic", seed=2, train=6)
    )
    (file,) = (tmp_path / "large").glob("zhiyuan_objv2_train.json")
    content = json.loads(file.read_text())
    wrong = content["annotations"][0] | {"id": 10**6, "bbox": [5000, 5000, 9, 9]}
    content["annotations"].append(wrong)
    file.write_text(json.dumps(content))
    given = SyntheticPretrain(source="large", seed=1, train=2)
    found = run_ingest(tmp_path, mine.name, pretrain=given)
    assert found["pretrain_images"] == 6
    run_validate(tmp_path)
    assert run_pack(tmp_path)["pretrain"] == 6
    folder = tmp_path / "data" / "pack" / "pretrain"
    boxes = sum(len(load_split(folder, name).boxes_xyxy) for name in ("train", "holdout"))
    assert boxes == len(content["annotations"]) - 1
