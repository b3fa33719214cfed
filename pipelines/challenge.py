"""Challenger against champion: both re-scored on the present test split, then the gate."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from frontier.errors import UsageError, nearest
from frontier.files import read_json, write_json
from frontier.params import Params, load_params
from frontier.tracking import registry
from pipelines import summary
from pipelines.promotion import Candidate, Decision, Gain, Limits, decide

if TYPE_CHECKING:
    from frontier.data.catalog import CatalogSplit
    from frontier.metrics import Detections

DECISIONS = "data/report/decision.json"

# Runs `work(client, run id)` where MLflow may be spoken to.
Call = Callable[[Callable[[Any, str], Any]], Any]


@dataclass(frozen=True)
class Contest:
    """One target whose champion is open.

    Attributes:
        facts: the target's entry in summary.json.
        version: the challenger's, in the registry; `champion` the champion's, if there is one.
        held: the champion's bundle, copied out of the registry.
    """

    target: str
    facts: Mapping[str, Any]
    version: Any
    champion: Any | None
    held: Path | None


def judge(
    root: Path, params: Params, closed: Mapping[str, Any], call: Call, *, compare: bool
) -> list[dict[str, Any]]:
    """Register every measured target as challenger and decide on champions.

    The comparison runs both detectors over the test split, for minutes perhaps; it is done here
    and not within `call`, which has a time limit.

    Args:
        closed: the content of summary.json.
        compare: False leaves an existing champion in place without a comparison.

    Returns:
        one decision per open target, also written to data/report/decision.json and to the run.
    """
    measured = {
        target: facts
        for target, facts in closed["targets"].items()
        if facts["status"] == "measured"
    }
    contests = call(
        lambda client, run_id: [
            _register(root, client, run_id, target, facts, compare=compare)
            for target, facts in measured.items()
        ]
    )
    decisions = [_decide(root, params, contest) for contest in contests if contest]
    if decisions:
        call(lambda client, run_id: _announce(root, client, run_id, decisions))
    return decisions


def _register(
    root: Path, client: Any, run_id: str, target: str, facts: Mapping[str, Any], *, compare: bool
) -> Contest | None:
    """The challenger of one target; None where its champion stays."""
    bundle = root / facts["bundle"]
    version = registry.register(client, run_id, target, bundle, _tags(root, facts))
    champion = registry.by_alias(client, target, registry.CHAMPION)
    if champion is None:
        return Contest(target, facts, version, None, None)
    if not compare or champion.version == version.version:
        return None
    folder = root / ".work" / "champion" / target / str(champion.version)
    return Contest(target, facts, version, champion, registry.download_bundle(champion, folder))


def _announce(root: Path, client: Any, run_id: str, decisions: list[dict[str, Any]]) -> None:
    for decision in decisions:
        if decision["promote"]:
            registry.promote(client, decision["target"], decision["challenger_version"])
    write_json(root / DECISIONS, decisions)
    client.log_artifact(run_id, str(root / DECISIONS))
    for decision in decisions:
        client.set_tag(run_id, f"decision.{decision['target']}", decision["reason"])


def _decide(root: Path, params: Params, contest: Contest) -> dict[str, Any]:
    bundle = root / contest.facts["bundle"]
    limits = Limits(params.search.max_latency_ms, params.search.min_ap)
    export = read_json(bundle.parent / "export.json")
    facts, stable = contest.facts, export["latency"]["int8"]["stable"]
    challenger = Candidate(facts["status"], facts["AP"], facts["latency_p50_ms"], stable)
    if contest.held is None:
        return _record(contest, decide(challenger, None, None, limits), None)
    gain, champion_ap = compare(root, params, bundle, contest.held)
    champion = Candidate("measured", champion_ap, _latency_here(root, contest.champion))
    return _record(contest, decide(challenger, champion, gain, limits), gain)


def compare(root: Path, params: Params, challenger: Path, champion: Path) -> tuple[Gain, float]:
    """Score two bundles on the same test images; the paired gain, and the champion's AP."""
    from frontier.data.catalog import Catalog
    from frontier.metrics import coco_metrics, paired_bootstrap

    catalog = Catalog.load(
        root / "data" / "ingest" / "catalog", root / "data" / "validate" / "judged"
    )
    split = catalog.split("test")
    classes = [entry["name"] for entry in catalog.classes]
    new = detect(challenger, split, classes, params.run.threads)
    old = detect(champion, split, classes, params.run.threads)
    gain = Gain(*paired_bootstrap(split, new, old, seed=params.run.seed))
    return gain, coco_metrics(split, old)["AP"]


def detect(bundle: Path, split: "CatalogSplit", classes: list[str], threads: int) -> "Detections":
    """Detections of a bundle on every image of a split, by the predictor that users get.

    Args:
        classes: the present dataset's; a bundle's labels are matched to them by name.
    """
    import numpy as np

    from frontier.images import read_image
    from frontier.metrics import Detections
    from frontier.runtime.predictor import Predictor

    predictor = Predictor(bundle, threads)
    places = {name: place for place, name in enumerate(classes)}
    known = np.array([places.get(name, -1) for name in predictor.classes], np.int64)
    rows = []
    for index in range(len(split)):
        found = predictor(read_image(split.image_path(index)))
        labels = known[found.labels]
        keep = labels >= 0
        rows.append((found.boxes_xyxy[keep], found.scores[keep], labels[keep]))
    return Detections.gather(split.image_ids.tolist(), rows)


def promote(root: Path, console: Console, target: str, version: str | None) -> None:
    """`frontier promote`: the gate for the present challenger, or a version named by hand.

    Raises:
        UsageError: there is no such target, version or challenger.
    """
    from frontier.tracking.store import connect

    params = load_params(root / "params.yaml")
    if target not in params.targets:
        raise UsageError(f"{target}: no such target; {nearest(target, [*params.targets])}")
    client, _ = connect(root)
    if version:
        registry.promote(client, target, version)
        console.print(f"{target}: version {version} is champion", highlight=False)
        return
    challenger = registry.by_alias(client, target, registry.CHALLENGER)
    if challenger is None:
        raise UsageError(f"{target}: no challenger is registered; run `frontier run` first")
    facts = summary.read(root)["targets"][target]

    def call(work: Callable[[Any, str], Any]) -> Any:
        return work(client, challenger.run_id)

    decisions = judge(root, params, {"targets": {target: facts}}, call, compare=True)
    for decision in decisions or [{"reason": "the champion is what was last exported"}]:
        console.print(f"{target}: {decision['reason']}", highlight=False)


def _latency_here(root: Path, version: Any) -> float | None:
    """The champion's latency, if it was measured on this hardware."""
    if version.tags.get("frontier.hardware") != _hardware(root):
        return None
    return float(version.tags["frontier.latency_p50_ms"])


def _tags(root: Path, facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "frontier.AP": str(facts["AP"]),
        "frontier.latency_p50_ms": str(facts["latency_p50_ms"]),
        "frontier.architecture": str(facts["architecture"]),
        "frontier.hardware": _hardware(root),
    }


def _hardware(root: Path) -> str:
    from frontier.targets.hardware import fingerprint_id

    return fingerprint_id(read_json(root / "data" / "hardware.json"))


def _record(contest: Contest, decision: Decision, gain: Gain | None) -> dict[str, Any]:
    champion = contest.champion
    return {
        "target": contest.target,
        "challenger_version": str(contest.version.version),
        "champion_version": str(champion.version) if champion else None,
        "gain": asdict(gain) if gain else None,
        **asdict(decision),
    }
