"""From the parts of a dataset to its catalog: gathered, opened, compared, split, laid in order.

Nothing that grows with the boxes is held in memory, and of the images only their ids and digests.
"""

import contextlib
import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from frontier.data.catalog import IMAGES, CatalogWriter
from frontier.data.formats import (
    SPLITS,
    Format,
    ImageRecord,
    Part,
    Problem,
    image_table,
    unsupported,
)
from frontier.data.formats.records import is_text
from frontier.data.intake import scenes
from frontier.data.intake.classes import number_classes
from frontier.data.intake.gathering import Gathered, Problems
from frontier.data.intake.placing import in_order, place_boxes
from frontier.data.intake.probing import probe_shard
from frontier.data.intake.source import image_names
from frontier.data.intake.spool import Spool, chunks
from frontier.data.intake.unlisted import unlisted
from frontier.data.workers import run
from frontier.errors import UsageError
from frontier.files import safe_join, write_json
from frontier.params import Ingest, Workers

pa: Any = pyarrow  # its functions are made at import, out of sight of a type checker

SHARD = 8192  # images laid down together; of Objects365 that is 120,000 boxes
OPENED = 256  # images opened by one worker before it reports
PROBED = pa.schema([field for field in IMAGES if field.name not in ("split", "scene", "boxes")])
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Source:
    """A dataset on its way into a catalog; folders as found now and as recorded for later.

    Attributes:
        given: how the user named it.
        wanted: splits to take from train where the dataset has none of that name.
    """

    name: str
    given: str
    form: Format
    folder: Path
    image_root: str
    unlabelled: Path | None = None
    unlabelled_root: str | None = None
    wanted: tuple[str, ...] = SPLITS


@dataclass(frozen=True)
class Look:
    """What the image files of all splits tell together.

    Attributes:
        probed: a spool of `PROBED` for each split.
        pairs: look-alikes, as rows of the images table.
        scene: `[I]`, equal for images that show the same.
        names: of the splits, with those that had to be made.
        split: `[I]`, as places in `names`.
    """

    probed: list[Spool]
    pairs: Any
    scene: npt.NDArray[np.int64]
    names: list[str]
    split: scenes.Places


def assemble(
    source: Source, folder: Path, work: Path, params: Ingest, workers: Workers, seed: int
) -> dict[str, float]:
    """Write the catalog of a source into `folder`; returns counts.

    Args:
        work: an empty folder for what does not fit into memory.
    """
    folder.mkdir(parents=True)
    problems = Problems(folder / "problems.parquet")
    with _without_collector():
        gathered = list(_gather(source, work, problems))
    classes = number_classes(gathered, source.form.ids_given, problems)
    look = _look(source, gathered, work, params, workers, seed, problems)
    if not problems.critical:  # else a record that should name a file may be among the faults
        problems.add(_unlisted(source, gathered))
    pa.parquet.write_table(look.pairs, folder / "pairs.parquet")
    writer = CatalogWriter(folder)
    start = 0
    for own, probed in zip(gathered, look.probed, strict=True):
        _write(writer, own, probed, look, start, classes.ids[own.split], problems, work)
        start += len(own)
    problems.close()
    write_json(folder / "class_map.json", classes.rows)
    read = sum(own.boxes_read for own in gathered)
    images_read = sum(own.images_read for own in gathered)
    info = {
        "name": source.name,
        "source": source.given,
        "format": source.form.name,
        "image_root": source.image_root,
        "unlabelled_root": source.unlabelled_root,
        "images_checked": params.check_images,
        "images_refused": images_read - start,
        "boxes_refused": read - writer.boxes,
        "classes": classes.entries,
    }
    writer.close(info)
    return {
        "images": start,
        "boxes": writer.boxes,
        "boxes_refused": read - writer.boxes,
        "classes": len(classes.entries),
        "problems": problems.counts.total(),
        "unreadable": sum(n for code, n in problems.counts.items() if code.startswith("image-")),
        "look_alikes": look.pairs.num_rows,
    }


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Records die by their reference counts; looking for cycles among millions takes a fifth."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _gather(source: Source, work: Path, problems: Problems) -> Iterator[Gathered]:
    for split in source.form.splits(source.folder):
        yield _gathered(split, source.form.read(source.folder, split), work, problems)
    if source.unlabelled is not None:
        yield _gathered(UNLABELLED, _unlabelled(source.unlabelled), work, problems)


def _gathered(split: str, parts: Iterable[Part], work: Path, problems: Problems) -> Gathered:
    gathered = Gathered(split, work)
    for part in parts:
        problems.add(part.problems)
        gathered.add(part)
    problems.add(gathered.close())
    return gathered


def _unlabelled(folder: Path) -> Iterator[Part]:
    names = image_names(folder)
    sound = [name for name in names if is_text(name)]
    rows = (ImageRecord(i, name, 0, 0, name, 0) for i, name in enumerate(sound, start=1))
    text = "the file's name is not UTF-8; rename it"
    yield Part(
        images=image_table(rows),
        problems=[
            Problem("not-text", "critical", f"{UNLABELLED} {ascii(name)[:200]}", text)
            for name in names
            if not is_text(name)
        ]
        + [problem for name in names for problem in unsupported(name)],
    )


def _look(
    source: Source,
    gathered: list[Gathered],
    work: Path,
    params: Ingest,
    workers: Workers,
    seed: int,
    problems: Problems,
) -> Look:
    probed = [_probe(source, own, work, params, workers, problems) for own in gathered]
    roots = [_root(source, own.split) for own in gathered]
    tables = ((r, t) for r, spool in zip(roots, probed, strict=True) for t in spool.tables())
    digests = scenes.digests(tables, sum(map(len, gathered)))
    pairs, remarks = scenes.look_alikes(digests, params.look_alike_bits)
    problems.add(remarks)
    given = [own.split for own in gathered]
    split = np.repeat(np.arange(len(given), dtype=np.int8), [len(own) for own in gathered])
    scene = scenes.scene_groups(_names(probed, params.scenes), pairs, len(split), params.scenes)
    missing = [name for name in source.wanted if name not in given]
    names = [*given, *missing]
    made = scenes.make_splits(split, names, scene, missing, params.made_split, seed)
    for name in missing:
        taken = (made == names.index(name)).sum()
        text = f"no labels; {taken} images were taken from train, scene by scene"
        problems.add([Problem("split-made", "warning", name, text)])
    return Look(probed, pairs, scene, names, made)


def _names(probed: list[Spool], pattern: str | None) -> list[str]:
    """File names where they tell scenes apart; there may be millions."""
    tables = (table for spool in probed for table in spool.tables()) if pattern else ()
    return [name for table in tables for name in table["file_name"].to_pylist()]


def _unlisted(source: Source, gathered: list[Gathered]) -> Iterator[Problem]:
    """One problem for all image files that no record names."""
    root = source.form.image_root(source.folder)
    labelled = (own for own in gathered if own.split != UNLABELLED)
    names = (t["file_name"].to_pylist() for own in labelled for t in own.image_tables())
    rest = unlisted(root, names, source.unlabelled)
    if first := next(rest, None):
        count = 1 + sum(1 for _ in rest)
        text = f"{count} image files are in no record, such as {ascii(first)[:200]}; not used"
        yield Problem("unlisted-image", "warning", source.name, text)


def _probe(
    source: Source,
    own: Gathered,
    work: Path,
    params: Ingest,
    workers: Workers,
    problems: Problems,
) -> Spool:
    """Complete a split's images by what their files tell."""
    root = _root(source, own.split)
    with Spool(work / f"{own.split}-probed.arrow", PROBED) as spool:
        if params.check_images:
            names = (t["file_name"].to_pylist() for t in chunks(own.image_tables(), OPENED))
            results = run(probe_shard, ((root, part) for part in names), workers)
        else:
            results = (_unopened(root, t) for t in chunks(own.image_tables(), OPENED))
        for table, facts in zip(chunks(own.image_tables(), OPENED), results, strict=True):
            problems.add(_file_faults(own.split, _shown(source, root), table, facts))
            spool.append(_completed(table, facts))
    return spool


def _unopened(root: Path, table: Any) -> Any:
    """Declared sizes in place of what the files would tell; names are still made sure of."""
    columns = ("file_name", "width", "height")
    told = [_told(root, *row) for row in zip(*(table[c].to_pylist() for c in columns), strict=True)]
    status, message = zip(*told, strict=True)
    texts = {name: pa.repeat("", len(told)) for name in ("sha256", "phash")}
    notes = pa.array([[]] * len(told), pa.list_(pa.string()))
    facts = {"status": status, "message": message, **texts, "notes": notes}
    return pa.table({"width": table["width"], "height": table["height"], **facts})


def _told(root: Path, file_name: str, width: int, height: int) -> tuple[str, str]:
    """Status and message of a file that is not opened."""
    try:
        safe_join(root, file_name)
    except UsageError as error:
        return "unsafe-path", str(error)
    if not width or not height:
        return "unknown-size", "the annotations do not tell its size, and images are not opened"
    return "ok", ""


def _root(source: Source, split: str) -> Path:
    if split == UNLABELLED:
        assert source.unlabelled is not None
        return source.unlabelled
    return source.form.image_root(source.folder)


def _completed(table: Any, facts: Any) -> Any:
    renamed = {"width": "declared_width", "height": "declared_height"}
    table = table.rename_columns([renamed.get(name, name) for name in table.column_names])
    for name in facts.column_names:
        table = table.append_column(name, facts[name])
    return table.select(PROBED.names)


def _shown(source: Source, root: Path) -> str:
    """What file names are below, as seen from the dataset's folder."""
    below = root.relative_to(source.folder) if root.is_relative_to(source.folder) else root
    return "" if below == Path() else f"{below}/"


def _file_faults(split: str, below: str, table: Any, facts: Any) -> Iterator[Problem]:
    for row in np.flatnonzero(pa.compute.not_equal(facts["status"], "ok")):
        code, message = facts["status"][row].as_py(), facts["message"][row].as_py()
        where = f"{split} image {table['image_id'][row]}"
        if code == "unsafe-path":
            yield Problem(code, "critical", where, message)
        else:
            named = message.startswith(table["file_name"][row].as_py()[:200])
            yield Problem(f"image-{code}", "warning", where, below + message if named else message)


def _write(
    writer: CatalogWriter,
    own: Gathered,
    probed: Spool,
    look: Look,
    start: int,
    ids: dict[int, int],
    problems: Problems,
    work: Path,
) -> None:
    """Append a split whose images begin at row `start` of the images table."""
    placed = place_boxes(own, SHARD, problems, work)
    for shard, images in enumerate(chunks(probed.tables(), SHARD)):
        first = start + shard * SHARD
        rows = slice(first, first + images.num_rows)
        images = images.append_column("split", pa.array(np.array(look.names)[look.split[rows]]))
        images = images.append_column("scene", pa.array(look.scene[rows]))
        boxes = in_order(placed[shard])
        within = boxes["row"].to_numpy() - shard * SHARD
        writer.add(images, _renumbered(boxes, ids), within)


def _renumbered(boxes: Any, ids: dict[int, int]) -> Any:
    """The boxes with the catalog's category ids for those of their file."""
    old = np.array(sorted(ids), np.int64)
    new = np.array([ids[i] for i in sorted(ids)], np.int64)
    place = boxes.column_names.index("category_id")
    found = new[np.searchsorted(old, boxes["category_id"].to_numpy())]
    return boxes.set_column(place, "category_id", pa.array(found))
