"""Turn any supported dataset into the canonical catalog; faults are recorded, not judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frontier.data import synthetic
from frontier.data.catalog import write_catalog
from frontier.data.formats import Parsed, Problem, coco, objects365
from frontier.data.probing import probe_all
from frontier.data.source import SPLITS, SYNTHETIC, annotation_files, image_names
from frontier.errors import DataError, UsageError
from frontier.files import safe_join
from frontier.params import Ingest, Run, Section
from frontier.stages import Inputs

OUT = "data/ingest"  # where `out` will lie, seen from the project root
SHARE = 0.15  # of train, for a split that the source does not have


class Params(Section):
    run: Run
    ingest: Ingest


@dataclass
class Source:
    """A dataset on its way into a catalog; folders as found now and as recorded for later."""

    name: str
    splits: dict[str, Parsed]
    images: Path
    unlabelled: Path | None
    image_root: str
    unlabelled_root: str | None


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `catalog/`, `pretrain/` and the generated images they refer to."""
    main = _main_source(params, inputs.root, out)
    metrics = _write(main, out / "catalog", params.ingest.source)
    folder = out / "synthetic_objects365"
    synthetic.write_objects365(folder, params.ingest.pretrain)
    train = objects365.read(folder)
    root = f"{OUT}/{folder.name}"
    pretrain = Source("objects365", {"train": train}, folder, None, root, None)
    counts = _write(pretrain, out / "pretrain", SYNTHETIC)
    return metrics | {f"pretrain_{key}": value for key, value in counts.items()}


def _main_source(params: Params, root: Path, out: Path) -> Source:
    given, unlabelled = params.ingest.source, params.ingest.unlabelled
    folder, recorded = root / given, given
    if given == SYNTHETIC:
        folder, recorded = out / SYNTHETIC, f"{OUT}/{SYNTHETIC}"
        synthetic.write_coco(folder, params.ingest.synthetic)
    splits = complete(_read_splits(annotation_files(folder)), params.run.seed)
    source = Source(folder.name, splits, folder / "images", None, f"{recorded}/images", None)
    if unlabelled is not None:
        source.unlabelled, source.unlabelled_root = root / unlabelled, unlabelled
    elif given == SYNTHETIC and params.ingest.synthetic.unlabelled:
        source.unlabelled = folder / "unlabelled"
        source.unlabelled_root = f"{recorded}/unlabelled"
    return source


def _read_splits(files: dict[str, Path]) -> dict[str, Parsed]:
    splits, broken = {}, []
    for split, file in files.items():
        try:
            splits[split] = coco.read(file)
        except DataError as error:
            broken.append(error.summary)
    if broken:
        raise DataError(f"{len(broken)} annotation file(s) cannot be read", broken)
    return splits


def complete(splits: dict[str, Parsed], seed: int) -> dict[str, Parsed]:
    """Take a share of train for each split that is missing, and say so in its problems."""
    missing = [split for split in SPLITS if split not in splits]
    train = splits["train"]
    order = np.random.default_rng([seed, 0]).permutation(len(train.images))
    take = int(len(order) * SHARE)
    for number, split in enumerate(missing):
        chosen = order[number * take : (number + 1) * take]
        ids = {train.images[i].image_id for i in chosen}
        splits[split] = Parsed(
            train.classes,
            [image for image in train.images if image.image_id in ids],
            [box for box in train.boxes if box.image_id in ids],
        )
        train.images = [image for image in train.images if image.image_id not in ids]
        train.boxes = [box for box in train.boxes if box.image_id not in ids]
        text = f"no annotation file; {len(ids)} images were taken from train"
        train.problems.append(Problem("split-made", "warning", split, text))
    return splits


def _write(source: Source, folder: Path, given: str) -> dict[str, float]:
    problems: list[Problem] = []
    classes = _classes(source.splits, problems)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for split, parsed in source.splits.items():
        problems += parsed.problems
        rows = _image_rows(split, parsed, source.images, problems)
        usable = {row["image_id"] for row in rows}
        images += rows
        own = [box for box in parsed.boxes if box.image_id in usable]
        boxes += [
            {"box_id": i, "split": split, **box._asdict()}
            for i, box in enumerate(own, start=len(boxes) + 1)
        ]
    if source.unlabelled:
        images += _unlabelled_rows(source.unlabelled, problems)
    info = {
        "name": source.name,
        "source": given,
        "image_root": source.image_root,
        "unlabelled_root": source.unlabelled_root,
        "classes": [{"category_id": i, "name": name} for i, name in sorted(classes.items())],
    }
    write_catalog(folder, info, images, boxes, problems)
    unreadable = sum(row["status"] != "ok" for row in images)
    counts = {"images": len(images), "boxes": len(boxes), "classes": len(classes)}
    return {**counts, "unreadable": unreadable, "problems": len(problems)}


def _classes(splits: dict[str, Parsed], problems: list[Problem]) -> dict[int, str]:
    """All splits' categories by id; the same id must mean the same class everywhere."""
    classes: dict[int, str] = {}
    for split, parsed in splits.items():
        for category_id, name in parsed.classes.items():
            known = classes.setdefault(category_id, name)
            if known != name:
                text = f"category id {category_id} is {name!r} here but {known!r} in another split"
                problems.append(Problem("class-conflict", "critical", split, text))
    return classes


def _image_rows(
    split: str, parsed: Parsed, root: Path, problems: list[Problem]
) -> list[dict[str, Any]]:
    entries, seen = [], set()
    for record in parsed.images:
        where = f"{split} image {record.image_id}"
        try:
            path = safe_join(root, record.file_name)
        except UsageError as error:
            problems.append(Problem("unsafe-path", "critical", where, str(error)))
            continue
        if record.file_name in seen:
            text = f"{record.file_name[:200]!r} is listed more than once"
            problems.append(Problem("duplicate-file", "warning", where, text))
        seen.add(record.file_name)
        declared = {"declared_width": record.width, "declared_height": record.height}
        row = {"image_id": record.image_id, "file_name": record.file_name, **declared}
        entries.append(({"split": split, **row}, path))
    return _probed(entries, problems)


def _unlabelled_rows(folder: Path, problems: list[Problem]) -> list[dict[str, Any]]:
    entries = []
    for i, name in enumerate(image_names(folder), start=1):
        row = {"split": "unlabelled", "image_id": i, "file_name": name}
        entries.append(({**row, "declared_width": 0, "declared_height": 0}, folder / name))
    return _probed(entries, problems)


def _probed(
    entries: Iterable[tuple[dict[str, Any], Path]], problems: list[Problem]
) -> list[dict[str, Any]]:
    """Complete rows by what opening their files tells."""
    kept = list(entries)
    rows = []
    for (row, _), found in zip(kept, probe_all(path for _, path in kept), strict=True):
        *facts, message = found
        rows.append({**row, **dict(zip(found._fields, facts, strict=False))})
        if found.status != "ok":
            where = f"{row['split']} image {row['image_id']}"
            problems.append(Problem(f"image-{found.status}", "warning", where, message))
    return rows
