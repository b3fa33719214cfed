"""Seconds that reading Pascal VOC takes for 100,000 boxes, which has a bar: `MOST_S`.

Sheets are written as VOC's own are, seven objects each. Time is processor time of this process, so
that waiting for others does not count; several rounds, the median, behind one that warms up. The
garbage collector is off, as it is in `ingest`.
"""

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path

from frontier.data.formats.voc import Voc

MOST_S = 2.0
OBJECTS = 7  # of a sheet
HEAD = """<annotation>
	<folder>VOC2007</folder>
	<filename>{stem}.jpg</filename>
	<source><database>The VOC2007 Database</database><image>flickr</image></source>
	<size>
		<width>500</width>
		<height>375</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
"""
THING = """	<object>
		<name>{name}</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{left}</xmin>
			<ymin>{top}</ymin>
			<xmax>{right}</xmax>
			<ymax>{bottom}</ymax>
		</bndbox>
	</object>
"""


def write(folder: Path, boxes: int) -> int:
    """A dataset of at least so many boxes; returns how many."""
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    sheets = -(-boxes // OBJECTS)
    for number in range(sheets):
        things = [
            THING.format(
                name=("dog", "cat", "person")[(number + i) % 3],
                left=1 + 10 * i + number % 50,
                top=1 + 7 * i,
                right=120 + 10 * i + number % 200,
                bottom=90 + 7 * i + number % 180,
            )
            for i in range(OBJECTS)
        ]
        stem = f"{number:06d}"
        (folder / "JPEGImages" / f"{stem}.jpg").touch()
        text = HEAD.format(stem=stem) + "".join(things) + "</annotation>\n"
        (folder / "Annotations" / f"{stem}.xml").write_text(text)
    return sheets * OBJECTS


def seconds(folder: Path, boxes: int) -> float:
    """Processor seconds for 100,000 boxes."""
    start = time.process_time()
    found = sum(part.boxes.num_rows for part in Voc().read(folder, "train"))
    spent = time.process_time() - start
    if found != boxes:
        raise SystemExit(f"{boxes} boxes written, {found} read")
    return spent / boxes * 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    gc.disable()
    with tempfile.TemporaryDirectory() as scratch:
        boxes = write(Path(scratch), given.boxes)
        taken = [seconds(Path(scratch), boxes) for _ in range(given.rounds + 1)][1:]
    middle = statistics.median(taken)
    print(f"{boxes} boxes: {middle:.2f} s per 100,000 (least {min(taken):.2f})")
    if middle > MOST_S:
        raise SystemExit(f"above {MOST_S:g} s per 100,000 boxes")


if __name__ == "__main__":
    main()
