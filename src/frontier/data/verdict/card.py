"""The dataset card: one page that shows what the verdict says, with pictures of the worst."""

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from frontier.data.catalog import image_root
from frontier.data.drawing import jpeg
from frontier.data.verdict import plots
from frontier.data.verdict.exhibits import Exhibit, exhibit_sheet, of_offender, of_pair
from frontier.data.verdict.flags import DECODED
from frontier.data.verdict.judged import Judged
from frontier.data.verdict.naming import Names
from frontier.data.verdict.offenders import leaks
from frontier.files import atomic_write

HERE = Path(__file__).parent


def write_card(out: Path, found: Judged, names: Names, verdict: dict[str, Any]) -> None:
    """Write `index.html`, which needs no other file, and its figures beside it.

    `classes.png`, `box_sizes.png` and `offenders.jpg` are left out where there is nothing to show.

    Args:
        names: of the rows of `found`'s tables.
        verdict: as written to `verdict.json`.
    """
    out.mkdir()
    figures = {
        "classes": plots.classes(verdict["classes"], out / "classes.png"),
        "sizes": plots.box_sizes(verdict["sizes"], out / "box_sizes.png"),
    }
    exhibits = _exhibits(found, names)
    if (picture := exhibit_sheet(exhibits)) is not None:
        atomic_write(out / "offenders.jpg", jpeg(picture))
    page = _template().render(
        info=found.info,
        verdict=verdict,
        figures={name: _inlined(path.read_bytes()) for name, path in figures.items() if path},
        exhibits=exhibits,
        plural=_plural,
    )
    atomic_write(out / "index.html", page)


def _exhibits(found: Judged, names: Names) -> list[Exhibit]:
    """Pairs across splits, then single images."""
    root = partial(image_root, found.catalog, found.info)
    class_names = {entry["category_id"]: entry["name"] for entry in found.info["classes"]}
    shared = leaks(names.tables["pairs"])
    rows = names.rows([row for _, *pair in shared for row in pair])
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [
        *(
            of_pair(code, pair, root)
            for (code, *_), pair in zip(shared, pairs, strict=True)
            if all(row["code"] in DECODED for row in pair)
        ),
        *(of_offender(offender, root, class_names) for offender in found.offenders.worst),
    ]


def _template() -> jinja2.Template:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["count"] = lambda amount: f"{amount:,}"
    made.filters["jpeg"] = lambda picture: _inlined(jpeg(picture))
    return made.get_template("card.html")


def _inlined(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _plural(things: Sequence[Any] | int, noun: str, many: str) -> str:
    amount = things if isinstance(things, int) else len(things)
    return f"{amount:,} {noun if amount == 1 else many}"
