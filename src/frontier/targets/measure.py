"""Latency, measured so that a number can be compared with another one.

Every candidate is timed in blocks, and the blocks of all candidates take turns, so that a slow
minute of the machine hits all of them. Within a block the candidate alternates with one fixed
reference network: the block is scaled by how slow the reference was, and it is timed again when
the reference drifted while it ran. Percentiles are quoted from the query counts of MLPerf
LoadGen only (Reddi et al. 2020, arXiv:1911.02549, table 4: 90 % confidence, margin 1/20).
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frontier.files import sha256
from frontier.params import Measure
from frontier.targets.base import Arrays, Session, Target

ROUNDS = 4  # turns of candidate and reference within a block
REFERENCE_SHARE = 0.25  # reference queries per candidate query
REPEATS = 5
QUERIES_FOR_P90, QUERIES_FOR_P99 = 64, 662
RESAMPLES = 1000
FREE_SIDE = 256  # pixels, where a model takes an image of any size

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one query; a percentile is None below its minimum query count.

    Attributes:
        reference_ms: the reference network's median in each block, which tells of drift.
    """

    p50_ms: float
    interval_ms: tuple[float, float]  # 95 %, bootstrap over blocks
    p90_ms: float | None
    p99_ms: float | None
    queries: int
    stable: bool  # False: the reference drifted in a block after all repeats
    reference_ms: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def latency_of(values: dict[str, Any]) -> Latency:
    """The inverse of `Latency.as_dict`, as JSON gives it back."""
    low, high = values["interval_ms"]
    reference_ms = tuple(values["reference_ms"])
    return Latency(**{**values, "interval_ms": (low, high), "reference_ms": reference_ms})


def records_path(root: Path, device_fingerprint: str, stage: str) -> Path:
    """Where a stage's measurements on one device are recorded, below the project root.

    One file a stage: two stages may time equal bytes, and reuse must give each its own number.
    """
    return root / "data" / "latency" / device_fingerprint / f"{stage}.jsonl"


@dataclass
class Block:
    """One candidate's turn: its queries and the reference's around them, milliseconds."""

    samples: Samples
    reference: Samples

    @property
    def reference_ms(self) -> float:
        return float(np.median(self.reference))

    @property
    def drift(self) -> float:
        """Relative change of the reference between the halves of the block."""
        first, second = np.array_split(self.reference, 2)
        return abs(float(np.median(second) / np.median(first)) - 1)


def measure_latency(
    models: Mapping[str, Path],
    target: Target,
    measure: Measure,
    threads: int,
    records: Path,
    reference: str,
    feeds: Mapping[str, Arrays] | None = None,
    reference_ms: float | None = None,
) -> dict[str, Latency]:
    """Time models against each other in the target's runtime.

    Args:
        models: key -> artifact of the target.
        records: see `records_path`; read with `measure.latency: reuse`,
            appended to in either case.
        reference: the key whose model every other one is compared with.
        feeds: inputs by key; by default random ones of the model's own shapes.
        reference_ms: the reference's p50 in an earlier call, to which this one is scaled, so that
            both compare; the reference itself is then neither answered nor recorded again.
    """
    given = feeds or {}
    names = {k: _record_name(path, given.get(k), measure, threads) for k, path in models.items()}
    known = _read_records(records) if measure.latency == "reuse" else {}
    asked = [key for key in models if reference_ms is None or key != reference]
    # equal bytes are timed once: one name, one number
    missing = {names[key]: key for key in asked if names[key] not in known}
    if missing:
        wanted = {key: models[key] for key in dict.fromkeys([reference, *missing.values()])}
        sessions = {key: target.load(path, threads) for key, path in wanted.items()}
        fed = {key: given.get(key) or random_feeds(session) for key, session in sessions.items()}
        timed = time_sessions(sessions, fed, measure, reference, reference_ms)
        measured = {name: timed[key] for name, key in missing.items()}
        _append_records(records, measured)
        known |= measured
    return {key: known[names[key]] for key in asked}


def time_sessions(
    sessions: Mapping[str, Session],
    feeds: Mapping[str, Arrays],
    measure: Measure,
    reference: str,
    reference_ms: float | None = None,
) -> dict[str, Latency]:
    """Time loaded models; see `measure_latency`."""
    for key, session in sessions.items():
        _queries(session, feeds[key], measure.warmup)
    blocks: dict[str, list[Block]] = {key: [] for key in sessions}
    repeats = dict.fromkeys(sessions, REPEATS)
    for _ in range(measure.blocks):
        for key, session in sessions.items():
            pair = (session, feeds[key]), (sessions[reference], feeds[reference])
            block = _block(*pair, measure.queries)
            while block.drift > measure.max_drift and repeats[key]:
                repeats[key] -= 1
                again = _block(*pair, measure.queries)
                block = min(block, again, key=lambda found: found.drift)
            blocks[key].append(block)
    seen = [block.reference_ms for own in blocks.values() for block in own]
    usual = reference_ms or float(np.median(seen))
    return {key: summarise(own, usual, measure.max_drift) for key, own in blocks.items()}


def summarise(blocks: list[Block], usual_ms: float, max_drift: float) -> Latency:
    """Blocks of one candidate to one latency; `usual_ms` is the reference's over all blocks."""
    corrected = [block.samples * (usual_ms / block.reference_ms) for block in blocks]
    medians = np.array([np.median(samples) for samples in corrected])
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(medians), (RESAMPLES, len(medians)))
    low, high = np.percentile(np.median(medians[picks], axis=1), [2.5, 97.5])
    pooled = np.concatenate(corrected)
    return Latency(
        p50_ms=float(np.median(medians)),
        interval_ms=(float(low), float(high)),
        p90_ms=float(np.percentile(pooled, 90)) if len(pooled) >= QUERIES_FOR_P90 else None,
        p99_ms=float(np.percentile(pooled, 99)) if len(pooled) >= QUERIES_FOR_P99 else None,
        queries=len(pooled),
        stable=all(block.drift <= max_drift for block in blocks),
        reference_ms=tuple(block.reference_ms for block in blocks),
    )


def _block(
    candidate: tuple[Session, Arrays], reference: tuple[Session, Arrays], queries: int
) -> Block:
    own = math.ceil(queries / ROUNDS)
    other = max(3, math.ceil(own * REFERENCE_SHARE))
    turns = [(_queries(*reference, other), _queries(*candidate, own)) for _ in range(ROUNDS)]
    references, samples = zip(*turns, strict=True)
    return Block(np.concatenate(samples)[:queries], np.concatenate(references))


def _queries(session: Session, feeds: Arrays, count: int) -> Samples:
    """Milliseconds of `count` queries, one after the other."""
    samples = np.empty(count)
    for index in range(count):
        started = time.perf_counter_ns()
        session.run(feeds)
        samples[index] = time.perf_counter_ns() - started
    return samples / 1e6


def random_feeds(session: Session) -> Arrays:
    """Inputs of the model's own shapes and types, the same each time."""
    rng = np.random.default_rng(0)
    feeds: Arrays = {}
    for name, (kind, shape) in session.inputs.items():
        sides = [side if isinstance(side, int) else FREE_SIDE for side in shape]
        values = rng.random(sides, np.float32)
        feeds[name] = (values * 255).astype(np.uint8) if kind == "tensor(uint8)" else values
    return feeds


def _record_name(artifact: Path, feeds: Arrays | None, measure: Measure, threads: int) -> str:
    """Everything that a latency depends on, the inputs included where they are given ones."""
    name = measure.model_dump(exclude={"latency"}) | {"threads": threads}
    name["artifact"] = sha256(artifact)
    if feeds:
        name["feeds"] = {key: _digest(value) for key, value in feeds.items()}
    return json.dumps(name, sort_keys=True)


def _digest(array: NDArray[Any]) -> str:
    """SHA-256 of shape, type and values."""
    heading = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(heading + array.tobytes()).hexdigest()


def _read_records(path: Path) -> dict[str, Latency]:
    """The latest record of each name; a torn last line, from a killed writer, is passed over."""
    found = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["name"]] = latency_of(record["latency"])
    return found


def _append_records(path: Path, measured: Mapping[str, Latency]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":  # repair a torn line
                file.write(b"\n")
        for name, latency in measured.items():
            record = {"name": name, "latency": latency.as_dict(), "unix_time": time.time()}
            file.write(json.dumps(record, sort_keys=True).encode() + b"\n")
