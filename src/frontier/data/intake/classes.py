"""One numbering of the classes for all splits, and the map from what the files said to it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from frontier.data.formats import Problem
from frontier.data.intake.gathering import Gathered, Problems


class Classes(NamedTuple):
    """Labels are places in `entries`, which are in order of category id.

    Attributes:
        entries: category_id and name of each class.
        ids: category id by the id in a split's files, by split.
        rows: the map as an artifact: split, source_id, name, category_id, label.
    """

    entries: list[dict[str, Any]]
    ids: dict[str, dict[int, int]]
    rows: list[dict[str, Any]]


def number_classes(gathered: Sequence[Gathered], ids_given: bool, problems: Problems) -> Classes:
    """Keep the ids that files give; otherwise number the names of all splits from 1, sorted.

    One id with two names, or one name with two ids, is a critical problem; the first is kept.
    """
    names: dict[int, str] = {}
    if ids_given:
        problems.add(_collect(gathered, names))
        ids = {g.split: {i: i for i in g.classes} for g in gathered}
    else:
        every = sorted({name for g in gathered for name in g.classes.values()})
        number = {name: i for i, name in enumerate(every, start=1)}
        names = {i: name for name, i in number.items()}
        ids = {g.split: {i: number[name] for i, name in g.classes.items()} for g in gathered}
    entries = [{"category_id": i, "name": names[i]} for i in sorted(names)]
    label = {entry["category_id"]: place for place, entry in enumerate(entries)}
    rows = [
        {
            "split": g.split,
            "source_id": source_id if ids_given else None,
            "name": g.classes[source_id],
            "category_id": category_id,
            "label": label[category_id],
        }
        for g in gathered
        for source_id, category_id in sorted(ids[g.split].items(), key=lambda item: item[1])
    ]
    return Classes(entries, ids, rows)


def _collect(gathered: Sequence[Gathered], names: dict[int, str]) -> Iterator[Problem]:
    by_name: dict[str, int] = {}
    for g in gathered:
        own = {name: i for i, name in reversed(g.classes.items())}
        for i, name in g.classes.items():
            known, other = names.setdefault(i, name), by_name.setdefault(name, i)
            if known != name:
                text = f"category id {i} is {name!r} here but {known!r} in another split"
                yield Problem("class-conflict", "critical", g.split, text)
            elif own[name] != i:
                text = f"class {name!r} has ids {own[name]} and {i}; rename one, or join the two"
                yield Problem("class-conflict", "critical", g.split, text)
            elif other != i:
                text = f"class {name!r} has id {i} here but {other} in another split"
                yield Problem("class-conflict", "critical", g.split, text)
