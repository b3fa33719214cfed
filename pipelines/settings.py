"""`--preset`, `--data`, `--target`, `--set` merged into params.yaml: comments kept, diff shown."""

import copy
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ruamel.yaml

from frontier.errors import UsageError, nearest
from frontier.files import atomic_write
from frontier.params import Params, load_yaml, parse_params

PRESETS = Path(__file__).parent / "presets"
# What a user chose for themselves; a preset changes it only by naming it.
OWN = ("ingest.source", "ingest.unlabelled", "search.max_latency_ms", "search.min_ap")
OWN_SECTIONS = ("targets", "searched")
# what `--target` may name although no preset builds it
FURTHER_TARGETS = {"openvino-cpu": {"like": "openvino-cpu", "kind": "openvino-cpu"}}

Values = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What the command line asks to change; paths are relative to the project root."""

    preset: str | None = None
    data: str | None = None
    unlabelled: str | None = None
    targets: Sequence[str] = ()
    max_latency_ms: float | None = None
    min_ap: float | None = None
    architecture: str | None = None
    seeds: Sequence[str] | None = None
    assignments: Sequence[str] = ()


@dataclass(frozen=True)
class Merge:
    """params.yaml as it shall be, checked whole, and how it differs from what it is."""

    path: Path
    text: str
    params: Params
    diff: tuple[str, ...]

    def write(self) -> None:
        if self.diff:
            atomic_write(self.path, self.text)


def merge(root: Path, request: Request) -> Merge:
    """The new params.yaml, not yet written.

    Raises:
        UsageError: an unknown preset, key or target with the nearest valid name, or a wrong value.
    """
    path = root / "params.yaml"
    yaml = _round_trip()
    current = load_yaml(path)
    wanted = _wanted(current, request)
    params = parse_params(wanted)
    document = yaml.load(path.read_text())
    _apply(document, wanted)
    text = io.StringIO()
    yaml.dump(document, text)
    return Merge(path, text.getvalue(), params, tuple(_diff(current, wanted)))


def project_path(root: Path, given: str) -> str:
    """A folder as the user typed it, spelled relative to the root unless it was absolute."""
    if given == "synthetic" or Path(given).is_absolute():
        return given
    return os.path.relpath(Path.cwd() / given, root)


def load_preset(name: str) -> Values:
    """The overlay's own values.

    Raises:
        UsageError: no such preset.
    """
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if name not in known:
        raise UsageError(f"--preset {name}: no such preset; {nearest(name, known)}")
    return load_yaml(PRESETS / f"{name}.yaml")


def _wanted(current: Values, request: Request) -> Values:
    wanted = copy.deepcopy(current)
    if request.preset:
        wanted = _with_preset(wanted, request.preset)
    if request.data:
        wanted["ingest"] |= {"source": request.data, "unlabelled": None}
    if request.unlabelled:
        wanted["ingest"]["unlabelled"] = request.unlabelled
    if request.targets:
        wanted = _with_targets(wanted, request.targets)
    if request.max_latency_ms is not None:
        wanted["search"]["max_latency_ms"] = request.max_latency_ms
    if request.min_ap is not None:
        wanted["search"]["min_ap"] = request.min_ap
    if request.architecture is not None:
        wanted["architecture"] = request.architecture
    if request.seeds is not None:
        wanted["search"]["seeds"] = [*request.seeds]
    problems = [line for item in request.assignments for line in _assign(wanted, item)]
    if problems:
        raise UsageError("\n".join(problems))
    return wanted


def _with_preset(current: Values, name: str) -> Values:
    """Overlays say how they differ from the demo, so each starts there and not at the last one."""
    demo = load_preset("demo")
    values = copy.deepcopy(demo) | {key: current[key] for key in OWN_SECTIONS}
    for dotted in OWN:
        section, key = dotted.split(".")
        values[section][key] = current[section][key]
    return _overlay(values, load_preset(name))


def _overlay(values: Values, overlay: Values) -> Values:
    merged = dict(values)
    for key, value in overlay.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "targets"
        merged[key] = _overlay(merged[key], value) if nested else copy.deepcopy(value)
    return merged


def _with_targets(values: Values, names: Sequence[str]) -> Values:
    """Build `names` alone, with the searched targets whose student they take."""
    known = FURTHER_TARGETS | load_preset("demo")["targets"] | values["targets"]
    chosen: Values = {}
    for name in names:
        if name not in known:
            raise UsageError(f"--target {name}: no such target; {nearest(name, [*known])}")
        like = known[name]["like"]
        chosen |= {like: known[like], name: known[name]}
    searched = list(dict.fromkeys(target["like"] for target in chosen.values()))
    return values | {"targets": chosen, "searched": searched}


def _assign(values: Values, assignment: str) -> list[str]:
    """Put `a.b=c` into place, `c` read as YAML; what is wrong with it otherwise."""
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        return [f"--set {assignment}: must look like section.key=value"]
    *sections, key = dotted.split(".")
    place: Any = values
    for depth, name in enumerate([*sections, key]):
        if not isinstance(place, dict) or name not in place:
            return [_unknown_key(dotted, ".".join([*sections, key][:depth]), name, place)]
        if depth < len(sections):
            place = place[name]
    try:
        place[key] = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    except ruamel.yaml.error.YAMLError:
        return [f"--set {assignment}: {text!r} is no YAML value"]
    return []


def _unknown_key(dotted: str, section: str, name: str, place: Any) -> str:
    if not isinstance(place, dict):
        return f"--set {dotted}: {section} is a value, not a section"
    where = f"under {section!r}" if section else "in params.yaml"
    return f"--set {dotted}: no key {name!r} {where}; {nearest(name, [*place])}"


def _round_trip() -> Any:
    yaml = ruamel.yaml.YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def _apply(document: Any, wanted: Values) -> None:
    """Change only what differs, so that comments and layout stay."""
    for key in [key for key in document if key not in wanted]:
        del document[key]
    for key, value in wanted.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _apply(document[key], value)
        elif key not in document or document[key] != value:
            document[key] = _styled(value)


def _styled(value: Any) -> Any:
    """Lists stand in one line, as in the committed file."""
    if not isinstance(value, list):
        return copy.deepcopy(value)
    sequence = ruamel.yaml.comments.CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


def _diff(old: Any, new: Any, prefix: str = "") -> list[str]:
    """`search.finalists: 12 -> 3`, one line per value."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in [*old, *(key for key in new if key not in old)]
            for line in _diff(old.get(key, ...), new.get(key, ...), f"{prefix}{key}.")
        ]
    if old == new:
        return []
    return [f"{prefix[:-1]}: {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    if value is ...:
        return "(none)"
    return "null" if value is None else str(value)
