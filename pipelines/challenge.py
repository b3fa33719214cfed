"""Challenger against champion: both re-scored on the present test split, then the gate."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from frontier.files import read_json, write_json
from frontier.params import Params
from frontier.tracking import registry
from pipelines.promotion import Candidate, Decision, Gain, Limits, decide

DECISIONS = "data/report/decision.json"


def settle(
    root: Path,
    params: Params,
    summary: Mapping[str, Any],
    client: Any,
    run_id: str,
    *,
    compare: bool,
) -> list[dict[str, Any]]:
    """Register every measured target as challenger and decide on champions.

    Args:
        summary: the content of summary.json.
        compare: False leaves an existing champion in place without a comparison.

    Returns:
        one decision per target, also written to data/report/decision.json and to the run.
    """
    decisions = []
    for target, facts in summary["targets"].items():
        if facts["status"] != "measured":
            continue
        bundle = root / facts["bundle"]
        version = registry.register(client, run_id, target, bundle, _tags(root, facts))
        champion = registry.by_alias(client, target, registry.CHAMPION)
        if champion is None or (compare and champion.version != version.version):
            decision, gain = _judge(root, params, facts, bundle, champion)
            if decision.promote:
                registry.promote(client, target, version.version)
            decisions.append(_record(target, version, champion, decision, gain))
    if decisions:
        write_json(root / DECISIONS, decisions)
        client.log_artifact(run_id, str(root / DECISIONS))
        for decision_ in decisions:
            client.set_tag(run_id, f"decision.{decision_['target']}", decision_["reason"])
    return decisions


def _judge(
    root: Path, params: Params, facts: Mapping[str, Any], bundle: Path, champion: Any | None
) -> tuple[Decision, Gain | None]:
    limits = Limits(params.search.max_latency_ms, params.search.min_ap)
    challenger = Candidate(
        facts["status"], facts["AP"], facts["latency_p50_ms"], facts["latency_stable"]
    )
    if champion is None:
        return decide(challenger, None, None, limits), None
    folder = root / ".work" / "champion" / champion.version
    held = registry.download_bundle(champion, folder)
    gain, champion_ap = compare(root, params, bundle, held)
    latency = _latency_here(root, champion)
    return decide(challenger, Candidate("measured", champion_ap, latency), gain, limits), gain


def compare(root: Path, params: Params, challenger: Path, champion: Path) -> tuple[Gain, float]:
    """Score two bundles on the same test images; the paired gain, and the champion's AP."""
    from frontier.data.catalog import Catalog
    from frontier.metrics import coco_metrics, paired_bootstrap

    catalog = Catalog.load(
        root / "data" / "ingest" / "catalog", root / "data" / "validate" / "verdict.json"
    )
    split = catalog.split("test")
    found = [detect(bundle, split, params.run.threads) for bundle in (challenger, champion)]
    gain = Gain(*paired_bootstrap(split, *found, seed=params.run.seed))
    return gain, coco_metrics(split, found[1])["AP"]


def detect(bundle: Path, split: Any, threads: int) -> Any:
    """Detections of a bundle on every image of a catalog split, by the predictor that users get."""
    raise NotImplementedError


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


def _record(
    target: str, version: Any, champion: Any | None, decision: Decision, gain: Gain | None
) -> dict[str, Any]:
    return {
        "target": target,
        "challenger_version": version.version,
        "champion_version": champion.version if champion else None,
        "gain": asdict(gain) if gain else None,
        **asdict(decision),
    }
