"""Judge the catalog before anything is trained on it; says what is left out and why."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from frontier import tracking
from frontier.data.catalog import Catalog
from frontier.data.expectations import judge
from frontier.data.rules import Rule, flag_tables, rules
from frontier.errors import DataError
from frontier.files import read_json, write_json
from frontier.params import Run, Section, Validate
from frontier.stages import Inputs

LISTED = 1000  # problems spelled out in the error; problems.json has them all


class Params(Section):
    run: Run
    validate_: Validate = Field(alias="validate")


def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]:
    """Write `verdict.json` and `data_docs/`.

    Raises:
        DataError: a critical expectation failed; lists every problem of every rule.
    """
    folder = inputs.path("ingest/catalog")
    catalog = Catalog.load(folder)
    checks = rules(params.validate_)
    tables = flag_tables(catalog, read_json(folder / "problems.json"), params.validate_)
    docs = inputs.work / "data_docs"  # outlives a failure, when it is wanted most
    shutil.rmtree(docs, ignore_errors=True)
    entries = judge(tables, checks, docs)
    verdict = _verdict(entries, tables)
    write_json(out / "verdict.json", verdict)
    if not verdict["passed"]:
        tracking.log_artifact(docs)
        raise DataError(*_complaint(entries, checks, tables))
    shutil.copytree(docs, out / "data_docs")
    tracking.log_artifact(out / "data_docs")
    warnings = sum(not entry["success"] for entry in entries)
    return {**verdict["counts"], "expectations": len(entries), "warnings": warnings}


def _fatal(entry: dict[str, Any]) -> bool:
    return entry["severity"] == "critical" and not entry["success"]


def _complaint(
    entries: list[dict[str, Any]], checks: list[Rule], tables: dict[str, pd.DataFrame]
) -> tuple[str, list[str]]:
    failed = [entry for entry in entries if _fatal(entry)]
    by_code = {rule.code: rule for rule in checks}
    problems = []
    for entry in failed:
        rule = by_code[entry["code"]]
        table = tables[rule.table]
        broken = table.loc[~table[rule.column].astype(bool)]
        problems += [f"{rule.code}: {text}" for text in _reasons(rule, broken)]
    total = len(problems)
    if total > LISTED:
        problems[LISTED:] = [f"and {total - LISTED} more"]
    rules_broken = ", ".join(f"{e['code']} ({e['unexpected']} of {e['total']})" for e in failed)
    return f"the dataset fails {len(failed)} critical check(s): {rules_broken}", problems


def _reasons(rule: Rule, broken: pd.DataFrame) -> list[str]:
    if rule.code == "images-usable":
        return (broken["where"] + " is unusable: " + broken["code"]).tolist()
    if rule.code == "no-leak":
        return (broken["where"] + " is in both a training and a measuring split").tolist()
    if rule.code == "xywh-order":
        return (broken["where"] + " reaches far outside: is it [x1, y1, x2, y2]?").tolist()
    return broken["where"].astype(str).tolist()


def _verdict(entries: list[dict[str, Any]], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    images, boxes = tables["images"], tables["boxes"]
    quarantined = images.loc[~images["usable"], ["split", "image_id", "file_name", "code"]]
    facts = ["box_id", "split", "image_id", "code"]
    repaired = boxes.loc[boxes["code"] == "clipped", facts]
    dropped = boxes.loc[boxes["code"].isin(["degenerate", "duplicate"]), facts]
    used = boxes[boxes["code"].isin(["ok", "clipped"])]
    per_split = {
        split: {"images": int(own["usable"].sum()), "boxes": int((used["split"] == split).sum())}
        for split, own in images.groupby("split")
    }
    return {
        "passed": not any(_fatal(entry) for entry in entries),
        "expectations": entries,
        "quarantined": quarantined.to_dict("records"),
        "repaired": repaired.to_dict("records"),
        "dropped": dropped.to_dict("records"),
        "counts": {
            "images_in": len(images),
            "images_used": int(images["usable"].sum()),
            "images_quarantined": len(quarantined),
            "boxes_in": len(boxes),
            "boxes_used": len(used),
            "boxes_repaired": len(repaired),
            "boxes_dropped": len(dropped),
        },
        "splits": per_split,
        "classes": tables["classes"][["name", "train", "val", "test"]].to_dict("records"),
    }
