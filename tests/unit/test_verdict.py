"""The rules: what each is worth, where its limit lies, and what boxes are told of."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from frontier.boxes import iou, xywh_to_xyxy
from frontier.data.verdict.expectations import judge
from frontier.data.verdict.faults import DUPLICATE, box_faults
from frontier.data.verdict.rules import PICTURES, Rule, rules
from frontier.params import load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
LIMITS = PARAMS.validate_
RULES = rules(LIMITS, opened=True)
ROWS = 1000

# the share of rows that may break a rule, or the largest number that keeps it
WARNINGS = {
    **dict.fromkeys(["wrong-extension", "exif-rotated", "cmyk", "sixteen-bit"], 0.0),
    **dict.fromkeys(["alpha", "animated", "no-copies", "class-examples"], 0.0),
    "class-everywhere": 0.0,
    "empty-images": 0.5,
    **dict.fromkeys(["out-of-image", "duplicate-box", "degenerate-box"], 0.1),
    **dict.fromkeys(["extreme-aspect", "suspicious-box"], 0.1),
    **dict.fromkeys(["class-drift", "size-drift"], 0.3),
}
CRITICAL = {
    "images-usable": 0.05,
    **dict.fromkeys(["no-leak", "no-near-leak", "box-numbers", "split-filled"], 0.0),
}


def broken(rule: Rule, limit: float, beyond: bool) -> "pd.Series[bool] | pd.Series[float]":
    """A column that keeps a rule as narrowly as it can be kept, or just does not."""
    if rule.table == "records":
        return pd.Series([int(beyond)])
    if rule.share is None:
        return pd.Series([0.0, limit + 0.001 * beyond])
    faulty = round(limit * ROWS) + beyond
    return pd.Series(np.arange(ROWS) >= faulty)


@pytest.mark.parametrize("beyond", [False, True])
def test_each_rule_breaks_just_beyond_its_limit(tmp_path: Path, beyond: bool) -> None:
    limits = WARNINGS | CRITICAL
    tables: dict[str, pd.DataFrame] = {}
    for rule in RULES:
        column = broken(rule, limits.get(rule.code, 0.0), beyond)
        table = tables.setdefault(rule.table, pd.DataFrame(index=column.index))
        table[rule.column] = column
    entries = judge(tables, RULES, tmp_path / "docs")
    assert [entry["code"] for entry in entries if entry["success"] is beyond] == []
    assert {e["code"] for e in entries} == {rule.code for rule in RULES}


def test_what_stops_a_run() -> None:
    remarks = {rule.code for rule in RULES if rule.table == "records" and "remark" in rule.message}
    warned = {rule.code for rule in RULES if rule.severity == "warning"}
    assert warned == {*WARNINGS} | remarks
    stopping = {rule.code for rule in RULES if rule.severity == "critical"}
    assert stopping >= {*CRITICAL, "unknown-image", "unsafe-path", "broken-file", "not-finite"}


def test_look_alikes_may_be_a_warning() -> None:
    changed = LIMITS.model_copy(update={"near_leak": "warning"})
    (rule,) = (rule for rule in rules(changed, opened=True) if rule.code == "no-near-leak")
    assert rule.severity == "warning"


def test_what_needs_open_images_is_not_judged_without() -> None:
    unopened = {rule.code for rule in rules(LIMITS, opened=False)}
    assert {rule.code for rule in RULES} - unopened == {*PICTURES}


def table_of(boxes_xywh: np.ndarray) -> pa.Table:
    count = len(boxes_xywh)
    columns = dict(zip("xywh", boxes_xywh.T, strict=True))
    return pa.table(
        {**columns, "category_id": np.ones(count, np.int64), "is_crowd": np.zeros(count, bool)}
    )


def faults_of(boxes_xywh: np.ndarray, *, centred: bool = False, side: int = 1000):
    rows = np.zeros(len(boxes_xywh), np.int64)
    sizes_hw = np.array([[side, side]])
    return box_faults(table_of(boxes_xywh), rows, sizes_hw, LIMITS, centred=centred)


def scattered(seed: int, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = rng.uniform(50, 300, (count, 2))
    return np.concatenate([rng.uniform(0, 1000 - sides), sides], axis=1)


def as_yolo_reads(numbers: np.ndarray) -> np.ndarray:
    """`[x, y, w, h]` of four numbers taken for a centre and sides."""
    return np.concatenate([numbers[:, :2] - numbers[:, 2:] / 2, numbers[:, 2:]], axis=1)


def test_numbers_that_mean_something_else_are_told() -> None:
    sound = scattered(0)
    corners = xywh_to_xyxy(sound).astype(float)
    centres = np.concatenate([sound[:, :2] + sound[:, 2:] / 2, sound[:, 2:]], axis=1)
    for numbers, centred, reading in [
        (corners, False, 0),
        (centres, False, 1),
        (as_yolo_reads(corners), True, 0),
        (as_yolo_reads(sound), True, 1),
    ]:
        found = faults_of(numbers, centred=centred)
        assert found.far.mean() > LIMITS.max_far
        assert found.fits[:, reading].all()
    for centred in (False, True):
        found = faults_of(sound, centred=centred)
        assert not found.far.any()
        assert (found.fits.mean(axis=0) < LIMITS.fits).all()


@pytest.mark.parametrize(("across", "down"), [(3, 12_000), (12_000, 3), (4_000, 4_000)])
def test_duplicates_are_those_of_brute_force(across: int, down: int) -> None:
    """Also in a column of text lines, whose left edges lie side by side."""
    rng = np.random.default_rng(1)
    once = np.stack(
        [
            rng.uniform(0, across, 600),
            rng.uniform(0, down, 600),
            np.full(600, 200.0),
            np.full(600, 12.0) if across < down else np.full(600, 200.0),
        ],
        axis=1,
    )
    again = once[:150] + rng.uniform(-0.2, 0.2, (150, 4))
    boxes = rng.permutation(np.concatenate([once, again]))
    overlap = np.tril(iou(xywh_to_xyxy(boxes), xywh_to_xyxy(boxes)), -1) > LIMITS.same_iou
    found = faults_of(boxes, side=20_000).code == DUPLICATE
    assert found.tolist() == overlap.any(axis=1).tolist()
