"""Pascal VOC: a folder of XML files, one per image, and lists of their names.

VOC counts pixels from 1 and a box includes its last one: `xmin` 1 to `xmax` W covers an image of
width W, which is left 0, width W here. Other tools count from 0 and end boxes where they end, which
one box that begins at 0 tells of a whole dataset. `difficult` objects become crowds, the mark of
boxes that are neither right nor wrong to find: VOC leaves them out of its scores as well.

Reference: Everingham and Winn, "The PASCAL VOC2012 Challenge Development Kit", section 8.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from frontier.data.formats import SPLITS, Part, Problem
from frontier.data.formats.reading import Fault, Record, Refused, is_file, parts
from frontier.data.formats.voc_layout import FOLDERS, kits
from frontier.data.formats.voc_xml import Annotation, Vocabulary, begins_at_zero


class Voc:
    """Several years below one folder (VOC2007, VOC2012) are read as one dataset."""

    name = "voc"
    layout = (
        ", ".join(f"{sheets}/*.xml with {images}/" for sheets, images in FOLDERS if sheets)
        + " and ImageSets/Main/{train,val,test}.txt, or {train,val,test}/*.xml beside the images"
    )
    ids_given = False

    def splits(self, folder: Path) -> list[str]:
        found = {split for kit in kits(folder) for split in kit.lists(folder)}
        return [split for split in SPLITS if split in found]

    def index(self, folder: Path) -> list[Path]:
        return []

    def annotations(self, folder: Path, split: str) -> list[Path]:
        names: set[str] = set()
        for kit in kits(folder):
            names |= {listing for listing in [kit.lists(folder).get(split)] if listing}
            with contextlib.suppress(Fault):
                files = kit.files(folder, split)
                names |= {file[0] for file in files if not isinstance(file, Problem)}
        return sorted(folder / name for name in names if is_file(folder, name))

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        vocabulary = Vocabulary()
        return parts(_records(folder, split, vocabulary), vocabulary.names)


def _records(folder: Path, split: str, vocabulary: Vocabulary) -> Iterator[Record]:
    image_ids = itertools.count(1)
    zero = _zero(folder)
    if zero and split == Voc().splits(folder)[0]:
        text = "a box begins at 0: pixels of all files are counted from 0, not from 1 as VOC does"
        yield Problem("zero-based", "warning", zero, text)
    first = 0 if zero else 1
    for kit in kits(folder):
        try:
            for file in kit.files(folder, split):
                if isinstance(file, Problem):
                    yield file
                    continue
                annotation = Annotation(folder, kit, file[0], next(image_ids), vocabulary, first)
                try:
                    yield from annotation.records()
                except Fault as fault:
                    yield fault.at(file[1])
                    yield Refused(0, images=1)
        except Fault as fault:
            yield fault.at(kit.lists(folder)[split])


def _zero(folder: Path) -> str:
    """The first XML file, of any split, with a box that begins at 0; empty if there is none."""
    files = (file for kit in kits(folder) for file in kit.all(folder))
    names = (file for file in files if isinstance(file, str))
    return next((name for name in names if begins_at_zero(folder, name)), "")
