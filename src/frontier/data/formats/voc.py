"""Pascal VOC: a folder of XML files, one per image, and lists of their names.

VOC counts pixels from 1 and a box includes its last one: `xmin` 1 to `xmax` W covers an image of
width W, which is left 0, width W here. `difficult` objects become crowds, the mark of boxes that
are neither right nor wrong to find: VOC leaves them out of its scores as well.

Reference: Everingham and Winn, "The PASCAL VOC2012 Challenge Development Kit", section 8.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from frontier.data.formats import SPLITS, Part
from frontier.data.formats.reading import Fault, Record, is_file, lines, parts
from frontier.data.formats.voc_xml import Annotation, Vocabulary, source


class Voc:
    """Several years below one folder (VOC2007, VOC2012) are read as one dataset."""

    name = "voc"
    layout = "Annotations/*.xml, JPEGImages/ and ImageSets/Main/{train,val,test}.txt"
    ids_given = False

    def splits(self, folder: Path) -> list[str]:
        found = {split for kit in _kits(folder) for split in _lists(folder, kit)}
        return [split for split in SPLITS if split in found]

    def annotations(self, folder: Path, split: str) -> list[Path]:
        names: set[str] = set()
        for kit in _kits(folder):
            names |= {listing for listing in [_lists(folder, kit).get(split)] if listing}
            with contextlib.suppress(Fault):
                names |= {source(kit, stem) for stem, _ in _stems(folder, kit, split)}
        return sorted(folder / name for name in names if is_file(folder, name))

    def image_root(self, folder: Path) -> Path:
        return folder

    def read(self, folder: Path, split: str) -> Iterator[Part]:
        vocabulary = Vocabulary()
        return parts(_records(folder, split, vocabulary), vocabulary.names)


def _records(folder: Path, split: str, vocabulary: Vocabulary) -> Iterator[Record]:
    image_ids = itertools.count(1)
    for kit in _kits(folder):
        try:
            for stem, where in _stems(folder, kit, split):
                annotation = Annotation(folder, kit, stem, next(image_ids), vocabulary)
                try:
                    yield from annotation.records()
                except Fault as fault:
                    yield fault.at(where)
        except Fault as fault:
            yield fault.at(_lists(folder, kit)[split])


def _kits(folder: Path) -> list[PurePosixPath]:
    """Where development kits lie, relative to the folder."""
    places = [folder, *sorted(folder.glob("VOC*")), *sorted(folder.glob("VOCdevkit/VOC*"))]
    return [
        PurePosixPath(place.relative_to(folder))
        for place in places
        if any(_xml_names(place / "Annotations"))
    ]


def _xml_names(folder: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.name.endswith(".xml"))


def _lists(folder: Path, kit: PurePosixPath) -> dict[str, str]:
    """The list of names of each split; a kit without lists is all train, without one."""
    names = {split: f"{kit / 'ImageSets/Main' / split}.txt" for split in (*SPLITS, "trainval")}
    found = {split: name for split, name in names.items() if (folder / name).is_file()}
    both = found.pop("trainval", "")
    return ({"train": both} if both else {}) | found or {"train": ""}


def _stems(folder: Path, kit: PurePosixPath, split: str) -> Iterator[tuple[str, str]]:
    """Each file's name without suffix, and where it is listed."""
    listing = _lists(folder, kit).get(split)
    if listing:
        for number, text in lines(folder, listing):
            yield text.split()[0], f"{listing}:{number}"
    elif listing is not None:
        for name in sorted(_xml_names(folder / kit / "Annotations")):
            yield name.removesuffix(".xml"), str(kit / "Annotations" / name)
