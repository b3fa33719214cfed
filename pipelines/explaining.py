"""Commands about architectures: the search space, and how an answer came from its baseline."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from frontier.errors import UsageError, nearest
from frontier.files import read_json
from frontier.models.architecture import (
    BLOCKS,
    DEPTHS,
    HEAD_WIDTHS,
    HIDDENS,
    NECK_OUTPUTS,
    STAGE_NAMES,
    STAGE_OUTPUTS,
    Architecture,
    SearchSpace,
    edits,
    scaled,
)
from frontier.params import load_params

COCO_CLASSES = 80


def space(root: Path, console: Console, code: str | None) -> None:
    """The size of the search space and its choices, or one architecture as a table.

    Raises:
        UsageError: not an architecture code, nor `yolo_nas_s|m|l`.
    """
    section = load_params(root / "params.yaml").space
    own = SearchSpace(section.interface_width, tuple(section.image_sizes))
    if code is None:
        _print_space(own, console)
    else:
        _print_architecture(_named(own, code), own, console)


def _named(own: SearchSpace, code: str) -> Architecture:
    return own.baseline(code) if code.startswith("yolo_nas_") else Architecture.parse(code)


def _print_space(own: SearchSpace, console: Console) -> None:
    table = Table("stage", "block", "depth", "hidden width, nominal", "intermediates")
    for index, name in enumerate(STAGE_NAMES):
        blocks = " or ".join(_block(block, index) for block in BLOCKS)
        choices = (_listed(DEPTHS[index]), _listed(HIDDENS[index]))
        table.add_row(name, blocks, *choices, "last or all")
    console.print(table)
    console.print(
        f"interface width {own.interface_width:g}, head width {_listed(HEAD_WIDTHS)}, input side "
        f"{_listed(own.image_sides)} px: {own.size:.2e} architectures",
        highlight=False,
    )


def _print_architecture(architecture: Architecture, own: SearchSpace, console: Console) -> None:
    table = Table("stage", "block", "depth", "hidden channels", "intermediates", "output channels")
    outputs = (*STAGE_OUTPUTS, *NECK_OUTPUTS)
    for index, (name, stage) in enumerate(zip(STAGE_NAMES, architecture.stages, strict=True)):
        table.add_row(
            name,
            _block(stage.block, index),
            str(stage.depth),
            str(architecture.hidden(index)),
            "all" if stage.concat else "last",
            str(scaled(outputs[index], architecture.interface_width)),
        )
    console.print(architecture.code, highlight=False, soft_wrap=True)
    console.print(table)
    parameters, gmac = _cost(architecture)
    member = "a member" if own.has(architecture) else "no member"
    console.print(
        f"interface width {architecture.interface_width:g}, head width "
        f"{architecture.head_width:g}, input {architecture.image_side} px: "
        f"{parameters / 1e6:.2f} M parameters and {gmac:.2f} GMAC once fused, with "
        f"{COCO_CLASSES} classes; {member} of this checkout's search space",
        highlight=False,
    )


def _block(block: str, stage: int) -> str:
    if block == "d":
        return "depthwise"
    return "plain 3x3" if STAGE_NAMES[stage].startswith("neck down") else "QARepVGG"


def _cost(architecture: Architecture) -> tuple[int, float]:
    from frontier.models.detector import Detector, cost

    return cost(Detector(architecture, COCO_CLASSES).deploy(), architecture.image_side)


def explain(root: Path, console: Console, target: str | None, undo: str | None) -> None:
    """The walk from the baseline to the answer, or the answer without one of its edits.

    Raises:
        UsageError: no search yet, nothing was searched, no such target or edit.
    """
    found = _search(root, target)
    if "taken" in found:
        raise UsageError(
            f"{found['target']}: its architecture was given, not searched, so no edit was weighed; "
            "`frontier run --set architecture=null` searches"
        )
    if undo is None:
        _print_walk(found, console)
    else:
        _print_undone(found, undo, console)


def _search(root: Path, target: str | None) -> dict[str, Any]:
    made = {path.parent.name: path for path in (root / "data" / "search").glob("*/search.json")}
    if not made:
        raise UsageError("no search yet; run `frontier run` first")
    name = target or min(made)
    if name not in made:
        raise UsageError(f"--target {name}: no search for it; {nearest(name, [*made])}")
    found: dict[str, Any] = read_json(made[name])
    return found


def _print_walk(found: dict[str, Any], console: Console) -> None:
    steps = found["postmortem"]
    table = Table("#", "edit", "ms", "AP points")
    for number, step in enumerate(steps, 1):
        points = f"{100 * step['delta_AP']:+.1f}"
        table.add_row(str(number), step["edit"], f"{step['delta_ms']:+.3f}", points)
    total = [sum(step[key] for step in steps) for key in ("delta_ms", "delta_AP")]
    table.add_section()
    table.add_row("", "in all", f"{total[0]:+.3f}", f"{100 * total[1]:+.1f}")
    console.print(_from_to(found), highlight=False, soft_wrap=True)
    if not steps:
        console.print("The answer is the baseline itself: there is nothing to explain.")
        return
    console.print(table)
    residual = found["postmortem_residual"]
    console.print(
        f"Each row is the difference of two measurements on {found['target']}; not explained: "
        f"{residual['ms']:+.3f} ms, {100 * residual['AP']:+.2f} AP points.",
        highlight=False,
    )


def _from_to(found: dict[str, Any]) -> str:
    answer = _row(found, found["recommended"]["architecture"])
    rows = {"baseline": found["baseline"], "answer": answer}
    return "\n".join(
        f"{name}: {row['architecture']}, {row['latency_p50_ms']:.3f} ms, AP {row['AP']:.3f}"
        for name, row in rows.items()
    )


def _row(found: dict[str, Any], code: str) -> dict[str, Any]:
    return next(row for row in found["timed"] if row["architecture"] == code)


def _print_undone(found: dict[str, Any], undo: str, console: Console) -> None:
    start = Architecture.parse(found["baseline"]["architecture"])
    answer = Architecture.parse(found["recommended"]["architecture"])
    names = [edit for edit, _ in edits(start, answer)]
    number = _edit(names, undo)
    kept = _without(start, answer, number)
    step, whole = found["postmortem"][number], _row(found, answer.code)
    console.print(f"without {names[number]!r}: {kept.code}", highlight=False, soft_wrap=True)
    measured = next((row for row in found["timed"] if row["architecture"] == kept.code), None)
    ms = measured["latency_p50_ms"] if measured else whole["latency_p50_ms"] - step["delta_ms"]
    ap = measured["AP"] if measured else whole["AP"] - step["delta_AP"]
    how = "measured" if measured else "estimated: the answer's less those of the edit"
    console.print(f"{ms:.3f} ms, AP {ap:.3f} ({how})", highlight=False)


def _edit(names: list[str], undo: str) -> int:
    """The place of an edit that is given by number, counted from 1, or by its words."""
    if undo.isdigit() and 1 <= int(undo) <= len(names):
        return int(undo) - 1
    if undo in names:
        return names.index(undo)
    listed = "; ".join(f"{i} ({name})" for i, name in enumerate(names, 1)) or "none"
    raise UsageError(f"--undo {undo}: no such edit; there are {listed}")


def _without(start: Architecture, answer: Architecture, number: int) -> Architecture:
    """The answer with the edit of that place taken back: edits touch different parts."""
    before, after = [start, *(a for _, a in edits(start, answer))][number : number + 2]
    for field in ("head_width", "image_side"):
        if getattr(before, field) != getattr(after, field):
            return replace(answer, **{field: getattr(before, field)})
    stages = (
        old if old != new else kept
        for old, new, kept in zip(before.stages, after.stages, answer.stages, strict=True)
    )
    return replace(answer, stages=tuple(stages))


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
