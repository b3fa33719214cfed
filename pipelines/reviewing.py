"""`frontier pseudo review`: pseudo-labels as a list for verdicts, and a page to look at.

The next run reads the list: `data/review.json` carries the verdicts to the stage.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console

from frontier.errors import UsageError
from frontier.files import atomic_write, read_json, safe_join
from frontier.labeling.review import CORNERS, REVIEW, carried_over, to_csv

STYLE = """body{font:15px system-ui,sans-serif;margin:2em;background:#14171c;color:#dfe2e6}
figure{display:inline-block;margin:0 1em 1.5em 0;vertical-align:top;width:320px}
figcaption{font-size:13px;overflow-wrap:anywhere}table{border-spacing:.6em .1em}img{width:320px}
code{color:#9cc5ff}"""
STYLES = {"sure": "solid", "ignored": "hatched"}
Rows = Sequence[tuple[int, Mapping[str, Any]]]


def review(root: Path, console: Console, images: int) -> None:
    """Write the list and the page; verdicts that were given already stay.

    Raises:
        UsageError: no pseudo-labels yet, or the list that is there cannot be read.
    """
    labelled = root / "data" / "pseudo_label" / "boxes.json"
    if not labelled.is_file():
        raise UsageError(
            f"{labelled}: no pseudo-labels; run `frontier run` with unlabelled images first"
        )
    rows = carried_over(root / REVIEW, _first_images(read_json(labelled), images))
    atomic_write(root / REVIEW, to_csv(rows))
    page = (root / REVIEW).with_suffix(".html")
    atomic_write(page, _page(root, rows))
    told = f"{len(rows)} boxes in {REVIEW}, pictures in {page.relative_to(root)}"
    console.print(told, markup=False, highlight=False)
    console.print("write accept or strike into the column `verdict`, then `frontier run`")


def _first_images(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The boxes of the first `count` images; they come image by image."""
    chosen = set(list(dict.fromkeys(row["image"] for row in rows))[:count])
    return [row for row in rows if row["image"] in chosen]


def _page(root: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Pictures with numbered boxes, the numbers being the lines of the list."""
    from frontier.data.catalog import Catalog

    folder = Catalog.load(root / "data" / "ingest" / "catalog").root("unlabelled")
    by_image: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for line, row in enumerate(rows, 2):  # line 1 names the columns
        by_image.setdefault(row["image"], []).append((line, row))
    figures = "\n".join(_figure(folder, image, own) for image, own in by_image.items())
    return (
        f"<!doctype html><meta charset=utf-8><title>Pseudo-labels to review</title><style>{STYLE}"
        f"</style><h1>Pseudo-labels to review</h1><p>Numbers are lines of <code>{REVIEW}</code>; "
        "solid boxes are learned, hatched ones are ignored by training. Write <code>accept</code> "
        f"or <code>strike</code> into the column <code>verdict</code>.</p>\n{figures}\n"
    )


def _figure(folder: Path, image: str, rows: Rows) -> str:
    picture = base64.b64encode(_drawn(safe_join(folder, image), rows)).decode()
    lines = "".join(
        f"<tr><td>{line}<td>{escape(str(row['class']))}<td>{row['score']}<td>{row['state']}"
        f"<td>{escape(row['verdict'])}</tr>"
        for line, row in rows
    )
    return (
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="{escape(image)} with its boxes">'
        f"<figcaption>{escape(image)}<table>{lines}</table></figcaption></figure>"
    )


def _drawn(path: Path, rows: Rows) -> bytes:
    from frontier.data.drawing import Mark, jpeg, marked
    from frontier.images import read_image

    marks = [
        Mark([row[name] for name in CORNERS], str(line), STYLES[row["state"]]) for line, row in rows
    ]
    return jpeg(marked(read_image(path), marks))
