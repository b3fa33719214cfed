"""DVC's graph, read only: the stages, what each needs, and what is stale and why."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontier.errors import UsageError, nearest


@dataclass(frozen=True)
class Node:
    """One stage of the graph.

    Attributes:
        name: as DVC addresses it, `search@onnxruntime-cpu`.
        upstream: the stages whose outputs it reads.
        device: `cpu`, `training`, or `target` (it measures on the target's device).
        reasons: what changed since it last ran; empty where nothing did.
    """

    name: str
    upstream: tuple[str, ...]
    device: str
    reasons: tuple[str, ...]


Graph = dict[str, Node]


def read_graph(root: Path) -> Graph:
    """All stages in an order in which they can run, by one `dvc status`.

    Raises:
        UsageError: `dvc.yaml` is wrong; DVC's own words.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        # DVC addresses stages relative to the working directory
        with contextlib.chdir(root), Repo() as repo:
            edges = [(a.addressing, b.addressing) for a, b in repo.index.graph.edges]
            meta = {stage.addressing: stage.meta or {} for stage in repo.index.stages}
            changes = repo.status()
    except DvcException as error:
        raise UsageError(f"dvc.yaml: {error}") from error
    upstream = {name: tuple(b for a, b in edges if a == name) for name in meta}
    return {
        name: Node(
            name, upstream[name], meta[name].get("device", "cpu"), _reasons(changes.get(name, []))
        )
        for name in _ordered(upstream)
    }


def _ordered(upstream: dict[str, tuple[str, ...]]) -> list[str]:
    """Upstream first; among equals, the order of `dvc.yaml`."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        for needed in upstream[name]:
            visit(needed)
        ordered.setdefault(name)

    for name in upstream:
        visit(name)
    return list(ordered)


def _reasons(changes: list[Any]) -> tuple[str, ...]:
    """DVC's nested answer as words: `search.finalists changed`, `data/pack missing`."""
    words: dict[str, None] = {}
    for change in changes:
        if isinstance(change, str):
            words.setdefault(change)
            continue
        for paths in change.values():
            for path, state in paths.items():
                parts = state.items() if isinstance(state, dict) else [(path, state)]
                for name, what in parts:
                    words.setdefault(f"{name} {_WORDS.get(what, what)}")
    return ("not run yet",) if "params.yaml new" in words else tuple(words)


_WORDS = {"modified": "changed", "deleted": "missing", "not in cache": "missing"}


def resolve(graph: Graph, name: str) -> list[str]:
    """The stages that a user means by `search` or `search@onnxruntime-cpu`.

    Raises:
        UsageError: no such stage; names the nearest.
    """
    found = [key for key in graph if key == name or key.startswith(f"{name}@")]
    if not found:
        raise UsageError(f"{name}: no such stage; {nearest(name, [*graph])}")
    return found


def downstream(graph: Graph, names: set[str]) -> set[str]:
    """`names` and every stage that reads what they write, at any distance."""
    reached = set(names)
    for name, node in graph.items():
        if reached & set(node.upstream):
            reached.add(name)
    return reached


def upstream(graph: Graph, names: set[str]) -> set[str]:
    """`names` and every stage whose outputs they read, at any distance."""
    reached = set(names)
    for name in reversed(graph):
        if name in reached:
            reached |= set(graph[name].upstream)
    return reached


def stale(graph: Graph) -> set[str]:
    """Every stage that may have work to do."""
    return downstream(graph, {name for name, node in graph.items() if node.reasons})
