"""What a stage is given: its declaration in `dvc.yaml` and the inputs declared there.

One stage = one file in this folder = one entry in `dvc.yaml`:

    class Params(Section): ...   # fields = sections of params.yaml; `target` = its own target
    def run(params: Params, inputs: Inputs, out: Path) -> dict[str, float]: ...

Stages never import each other; they meet in files.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from frontier.errors import UsageError, nearest
from frontier.params import load_yaml

DATA = PurePosixPath("data")


@dataclass(frozen=True)
class Declaration:
    """One resolved entry of `dvc.yaml`.

    Attributes:
        name: the stage, as its module is called.
        target: the item of its `foreach`, None for a stage that exists once.
        params: section names as written, `targets.<name>` for the target's own section.
    """

    name: str
    target: str | None
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    metrics: tuple[str, ...]
    device: str = "cpu"

    @property
    def key(self) -> str:
        """The name that DVC, journals and locks use: `search@onnxruntime-cpu`."""
        return self.name if self.target is None else f"{self.name}@{self.target}"

    @property
    def out(self) -> str:
        """The one folder that the stage's `run` fills."""
        return next(out for out in self.outs if not out.startswith("data/runs/"))

    @property
    def run_json(self) -> str:
        return next(out for out in self.outs if out.startswith("data/runs/"))


@dataclass(frozen=True)
class Inputs:
    """A stage's declared inputs and its resumable folder.

    Attributes:
        root: the project root.
        deps: declared dependencies, relative to `root`.
        target: the target's name, None for a stage that exists once.
        work: a folder that outlives a killed stage, keyed by params + inputs + code.
    """

    root: Path
    deps: tuple[str, ...]
    target: str | None
    work: Path

    def path(self, name: str) -> Path:
        """The path of `data/<name>`.

        Raises:
            UsageError: `dvc.yaml` declares neither it nor a folder above it.
        """
        wanted = DATA / name
        if not any(is_within(wanted, dep) for dep in self.deps):
            raise UsageError(
                f"data/{name}: not a declared input of this stage; add it to deps in dvc.yaml "
                f"(declared: {', '.join(dep for dep in self.deps if dep.startswith('data/'))})"
            )
        return self.root / wanted


def is_within(path: str | PurePosixPath, folder: str | PurePosixPath) -> bool:
    return PurePosixPath(path).is_relative_to(folder)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys, the way `--set` spells them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def declarations(root: Path) -> dict[str, Declaration]:
    """Every stage of `dvc.yaml`, by key, with `${item}`, `${key}`, `${item.x}` filled in."""
    values = load_yaml(root / "params.yaml")
    found = [
        _declaration(name, entry, variables)
        for name, stage in load_yaml(root / "dvc.yaml")["stages"].items()
        for entry, variables in _expand(stage, values)
    ]
    return {declaration.key: declaration for declaration in found}


def declaration(root: Path, name: str, target: str | None) -> Declaration:
    """The entry of one stage.

    Raises:
        UsageError: no such stage; names the nearest.
    """
    known = declarations(root)
    key = name if target is None else f"{name}@{target}"
    if key not in known:
        raise UsageError(f"{key}: no such stage in dvc.yaml; {nearest(key, [*known])}")
    return known[key]


def _expand(stage: dict[str, Any], values: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    if "foreach" not in stage:
        return [(stage, {})]
    items = _lookup(stage["foreach"][2:-1], values)
    if isinstance(items, dict):
        return [(stage["do"], {"key": key, "item": item}) for key, item in items.items()]
    return [(stage["do"], {"item": item}) for item in items]


def _declaration(name: str, entry: dict[str, Any], variables: dict[str, Any]) -> Declaration:
    def filled(field: str) -> tuple[str, ...]:
        items = entry.get(field, [])
        names = (next(iter(item)) if isinstance(item, dict) else item for item in items)
        return tuple(_fill(name, variables) for name in names)

    return Declaration(
        name=name,
        target=_target(variables),
        deps=filled("deps"),
        outs=filled("outs"),
        params=filled("params"),
        metrics=filled("metrics"),
        device=entry.get("meta", {}).get("device", "cpu"),
    )


def _target(variables: dict[str, Any]) -> str | None:
    return str(variables.get("key", variables.get("item"))) if variables else None


def _fill(text: str, variables: dict[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(_lookup(found[1], variables)), text)


def _lookup(dotted: str, values: dict[str, Any]) -> Any:
    value: Any = values
    for part in dotted.split("."):
        value = value[part]
    return value
