import json

import numpy as np
import pytest

from frontier.params import Measure
from frontier.targets import measure
from frontier.targets.hardware import fingerprint_id, hardware_fingerprint
from frontier.targets.measure import Block, Latency, measure_latency, summarise, time_sessions

PROTOCOL = Measure(latency="fresh", warmup=1, blocks=5, queries=16, max_drift=0.03)


class FakeSession:
    """Takes `ms` of a fake clock, times the slowness of the machine at that moment."""

    inputs = {"images": ("tensor(float)", [1, 2])}  # noqa: RUF012

    def __init__(self, clock, ms):
        self.clock, self.ms, self.runs = clock, ms, 0

    def run(self, feeds):
        self.runs += 1
        self.clock.now += self.ms * 1e6 * self.clock.slowness(self.clock.now / 1e6)
        return {}


class Clock:
    def __init__(self, slowness=lambda ms: 1.0):
        self.now, self.slowness = 0.0, slowness

    def perf_counter_ns(self):
        return int(self.now)

    @staticmethod
    def time():
        return 0.0


class FakeTarget:
    def __init__(self, clock, speeds):
        self.clock, self.speeds, self.loaded = clock, speeds, []

    def load(self, artifact, threads):
        self.loaded.append(artifact.name)
        return FakeSession(self.clock, self.speeds[artifact.name])


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measure, "time", made)
    return made


def timed(clock, protocol=PROTOCOL, **ms):
    sessions = {key: FakeSession(clock, value) for key, value in ms.items()}
    return sessions, time_sessions(sessions, {key: {} for key in ms}, protocol, "reference")


def test_a_steady_machine_gives_the_true_times(clock):
    _, found = timed(clock, reference=2.0, fast=1.0, slow=3.0)
    assert found["fast"].p50_ms == pytest.approx(1.0)
    assert found["slow"].interval_ms == pytest.approx((3.0, 3.0))
    assert found["slow"].stable


def test_a_machine_that_slows_down_is_corrected_for(clock):
    """Twice as slow after a while: the ratios stay."""
    clock.slowness = lambda ms: 1.0 if ms < 300 else 2.0
    _, found = timed(clock, reference=1.0, half=0.5, double=2.0)
    assert found["double"].p50_ms / found["half"].p50_ms == pytest.approx(4.0, rel=0.01)


def test_a_drifted_block_is_repeated_at_most_five_times(clock):
    clock.slowness = lambda ms: 1.0 + ms / 50  # never steady
    sessions, found = timed(clock, reference=1.0, other=1.0)
    assert not found["other"].stable
    runs = PROTOCOL.warmup + (PROTOCOL.blocks + measure.REPEATS) * PROTOCOL.queries
    assert sessions["other"].runs == runs


@pytest.mark.parametrize(
    ("queries", "p90", "p99"), [(8, False, False), (13, True, False), (133, True, True)]
)
def test_a_percentile_needs_its_query_count(clock, queries, p90, p99):
    protocol = PROTOCOL.model_copy(update={"queries": queries})
    _, found = timed(clock, protocol, reference=1.0)
    latency = found["reference"]
    assert latency.queries == 5 * queries
    assert (latency.p90_ms is not None, latency.p99_ms is not None) == (p90, p99)


def test_the_interval_widens_with_the_spread_of_blocks():
    rng = np.random.default_rng(0)

    def width(spread):
        blocks = [Block(np.full(10, 1 + v), np.ones(10)) for v in rng.normal(0, spread, 7)]
        low, high = summarise(blocks, 1.0, 0.03).interval_ms
        return high - low

    assert width(0.2) > 5 * width(0.01)


@pytest.fixture
def artifacts(tmp_path):
    paths = {name: tmp_path / name for name in ("reference", "a", "b")}
    for name, path in paths.items():
        path.write_text(name)
    return paths


def run(artifacts, clock, records, latency="reuse", speeds=(1.0, 2.0, 3.0), feeds=None, **changes):
    target = FakeTarget(clock, dict(zip(artifacts, speeds, strict=True)))
    protocol = PROTOCOL.model_copy(update={"latency": latency, **changes})
    found = measure_latency(artifacts, target, protocol, 2, records, "reference", feeds)
    return target.loaded, found


def test_recorded_measurements_are_reused(artifacts, clock, tmp_path):
    records = tmp_path / "latency" / "device.jsonl"
    loaded, first = run(artifacts, clock, records, "fresh")
    assert loaded == ["reference", "a", "b"]
    assert run(artifacts, clock, records, speeds=(9.0, 9.0, 9.0)) == ([], first)
    # other bytes are measured again, against the reference, and nothing else is
    artifacts["a"].write_text("other")
    loaded, second = run(artifacts, clock, records, speeds=(1.0, 4.0, 9.0))
    assert loaded == ["reference", "a"]
    assert second["a"].p50_ms == pytest.approx(4.0)
    assert second["b"] == first["b"]
    # as is everything under another protocol
    loaded, _ = run(artifacts, clock, records, queries=8)
    assert loaded == ["reference", "a", "b"]


def test_given_inputs_are_part_of_what_was_measured(artifacts, clock, tmp_path):
    records = tmp_path / "device.jsonl"
    run(artifacts, clock, records)
    feeds = {"a": {"images": np.zeros((1, 2), np.float32)}}
    assert run(artifacts, clock, records, feeds=feeds)[0] == ["reference", "a"]
    assert run(artifacts, clock, records, feeds=feeds)[0] == []
    feeds["a"]["images"][0, 0] = 1
    assert run(artifacts, clock, records, feeds=feeds)[0] == ["reference", "a"]


def test_equal_bytes_are_timed_once(artifacts, clock, tmp_path):
    artifacts["b"].write_text("a")
    loaded, found = run(artifacts, clock, tmp_path / "device.jsonl", "fresh")
    assert loaded == ["reference", "b"]
    assert found["a"] == found["b"]


def test_a_torn_record_is_passed_over_and_repaired(artifacts, clock, tmp_path):
    records = tmp_path / "device.jsonl"
    _, first = run(artifacts, clock, records, "fresh")
    text = records.read_text().splitlines()
    records.write_text("\n".join(text[:2]) + "\n" + text[2][:40])
    loaded, again = run(artifacts, clock, records)
    assert loaded == ["reference", "b"]
    assert again["a"] == first["a"]
    assert run(artifacts, clock, records) == ([], again)
    assert len(records.read_text().splitlines()) == 4


def test_a_latency_is_json():
    latency = Latency(1.0, (0.9, 1.1), None, None, 10, True)
    assert json.loads(json.dumps(latency.as_dict()))["interval_ms"] == [0.9, 1.1]


def test_the_fingerprint_is_stable_and_names_the_runtime():
    hardware = hardware_fingerprint()
    assert hardware["cores"] >= 1
    assert hardware["runtimes"]["onnxruntime"]
    assert fingerprint_id(hardware) == fingerprint_id(hardware_fingerprint())
    assert fingerprint_id(hardware) != fingerprint_id({**hardware, "cores": 99})
