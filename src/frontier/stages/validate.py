"""Judge the catalog before anything is trained on it; says what is left out and why."""

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from frontier import tracking
from frontier.data.formats import SPLITS
from frontier.data.tables import opened
from frontier.data.verdict.card import write_card
from frontier.data.verdict.expectations import judge
from frontier.data.verdict.judged import Judged
from frontier.data.verdict.naming import Names
from frontier.data.verdict.rules import PICTURES, Rule, rules
from frontier.errors import DataError
from frontier.files import write_json
from frontier.params import Run, Section, Validate
from frontier.stages import Inputs

LISTED = 1000  # problems spelled out in the error, of each rule
SAMPLE = 20  # rows named in the verdict, of each rule
SHOWN = 200  # quarantined images in the verdict; the table has all


class Params(Section):
    run: Run
    validate_: Validate = Field(alias="validate")


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `judged/` (the verdict, and what becomes of each image and box), and two accounts of
    it to look at: `data_docs/` and `card/`.

    Raises:
        DataError: a critical expectation failed; lists what breaks every such rule.
    """
    folder, judged = inputs.path("ingest/catalog"), out / "judged"
    judged.mkdir()
    found = Judged(folder, judged, params.validate_)
    checks = rules(params.validate_, opened=found.info["images_checked"])
    tables = found.tables()
    _judge_pretrain(inputs.path("ingest/pretrain"), judged / "pretrain", params.validate_)
    pages = [inputs.work / name for name in ("data_docs", "card")]
    for page in pages:  # they outlive a failure, when they are wanted most
        shutil.rmtree(page, ignore_errors=True)
    docs, card = pages
    entries = judge(tables, checks, docs)
    names = Names(folder, judged, tables)
    broken = {rule.code: names.broken(rule, SAMPLE) for rule in checks}
    entries = [{**entry, "sample": broken[entry["code"]]} for entry in entries]
    verdict = _verdict(entries, found, tables, judged)
    write_json(judged / "verdict.json", verdict)
    write_card(card, found, names, verdict)
    if not verdict["passed"]:
        for page in pages:
            tracking.log_artifact(page)
        raise DataError(*_complaint(entries, checks, names))
    for page in pages:
        shutil.copytree(page, out / page.name)
        tracking.log_artifact(out / page.name)
    warnings = sum(not entry["success"] for entry in entries)
    return {**verdict["counts"], "expectations": len(entries), "warnings": warnings}


def _judge_pretrain(folder: Path, judged: Path, limits: Validate) -> None:
    """What becomes of its images and boxes; no fault of theirs ends the run."""
    judged.mkdir()
    Judged(folder, judged, limits).tables()


def _fatal(entry: dict[str, Any]) -> bool:
    return entry["severity"] == "critical" and not entry["success"]


def _complaint(
    entries: list[dict[str, Any]], checks: list[Rule], names: Names
) -> tuple[str, list[str]]:
    by_code = {rule.code: rule for rule in checks}
    failed = [entry for entry in entries if _fatal(entry)]
    problems = []
    for entry in failed:
        code, unexpected = entry["code"], entry["unexpected"]
        texts = names.broken(by_code[code], LISTED)
        problems += [f"{code}: {text}" for text in texts]
        if unexpected > len(texts):
            problems.append(f"{code}: and {unexpected - len(texts)} more")
    told = ", ".join(f"{e['code']} ({_count(e)})" for e in failed)
    return f"the dataset fails {len(failed)} critical check(s): {told}", problems


def _count(entry: dict[str, Any]) -> str:
    of = f" of {entry['total']}" if entry["total"] is not None else ""
    return f"{entry['unexpected']}{of}"


def _verdict(
    entries: list[dict[str, Any]], found: Judged, tables: dict[str, Any], judged: Path
) -> dict[str, Any]:
    counts = found.counts
    images = ("images_in", "images_used", "images_quarantined", "images_refused")
    boxes = ("boxes_in", "boxes_used", "boxes_repaired", "boxes_dropped")
    lost = ("boxes_quarantined", "boxes_refused")  # of the dropped ones
    judged_codes = {entry["code"] for entry in entries}
    return {
        "passed": not any(_fatal(entry) for entry in entries),
        "expectations": entries,
        "not_checked": [code for code in PICTURES if code not in judged_codes],
        "counts": {key: int(counts[key]) for key in (*images, *boxes, *lost)},
        "quarantined": _quarantined(judged / "images.parquet"),
        "splits": {
            split: {"images": found.usable[split], "boxes": int(found.sizes[split].sum())}
            for split in SPLITS
        },
        "sizes": {split: sizes.tolist() for split, sizes in found.sizes.items()},
        "classes": tables["classes"][["name", *SPLITS]].to_dict("records"),
    }


def _quarantined(path: Path) -> list[dict[str, Any]]:
    """The first of the quarantined images."""
    columns = ["split", "image_id", "file_name", "code"]
    kept: list[dict[str, Any]] = []
    with opened(path) as file:
        for batch in file.iter_batches(columns=[*columns, "outcome"]):
            if len(kept) < SHOWN:
                rows = batch.to_pylist()
                own = (row for row in rows if row.pop("outcome") == "quarantined")
                kept += list(own)[: SHOWN - len(kept)]
    return kept
