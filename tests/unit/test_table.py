"""The latency table: composed graphs, additive estimates, and how they are judged."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from frontier.models.architecture import Architecture, SearchSpace, StageChoice
from frontier.models.blocks import fuse
from frontier.models.detector import Detector, count_parameters
from frontier.search import survey
from frontier.search.costs import Costs, Surveyed
from frontier.search.features import genes_of
from frontier.search.footprint import Footprint
from frontier.search.frontier import Limits
from frontier.search.graphs import Graphs
from frontier.search.latency import Timing
from frontier.search.survey import Survey
from frontier.search.table import Table, TableEstimator, base_of, entries
from frontier.targets.measure import Latency
from frontier.targets.network import export_network
from tests import tiny

SPACE = SearchSpace(0.25, (64, 96, 128))


def drawn(count: int, seed: int = 0) -> list[Architecture]:
    generator = np.random.default_rng(seed)
    return [SPACE.random(generator) for _ in range(count)]


def operations(model: onnx.ModelProto) -> Counter[object]:
    """Operators with the shapes of their weights."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = ((n.op_type, tuple(shapes.get(name) for name in n.input)) for n in model.graph.node)
    return Counter(found)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_composed_graph_is_the_exported_one(tmp_path: Path, batch_size: int):
    large, small = SPACE.largest.stages, SPACE.alike(0, StageChoice("d", 2, 48, concat=False))
    turns = zip(large, small, strict=True)
    mixed = tuple(pair[place % 2] for place, pair in enumerate(turns))
    architecture = Architecture(0.25, 96, 0.75, mixed)
    composed = Graphs(SPACE, 3, batch_size).compose(architecture)
    onnx.checker.check_model(composed, full_check=True)
    detector = Detector(architecture, 3)
    path = export_network(detector.deploy(), 96, tmp_path / "network.onnx", batch_size)
    exported = onnx.load(path)
    assert operations(composed) == operations(exported)
    assert [*composed.graph.input] == [*exported.graph.input]
    assert [*composed.graph.output] == [*exported.graph.output]


def additive_ms(architecture: Architecture) -> float:
    """A made-up device on which costs do add up, in proportion to area."""
    area = (architecture.image_side / 128) ** 2
    stages = sum(
        (place + 1)
        * (stage.depth * stage.hidden / 300 * (0.4 if stage.block == "d" else 1) + stage.concat)
        for place, stage in enumerate(architecture.stages)
    )
    return 1.0 + 0.2 * area * (stages + 3 * architecture.head_width)


def table_of(cost) -> Table:
    return Table(SPACE, {network.code: cost(network) for network in entries(SPACE)})


def test_where_costs_add_up_the_table_is_exact():
    whole = {network.code: additive_ms(network) for network in drawn(20)}
    estimator = TableEstimator(table_of(additive_ms), whole)
    quality = estimator.judge({network.code: additive_ms(network) for network in drawn(30, 1)})
    assert quality["mape"] < 1e-3
    assert quality["tau"] > 0.99
    assert quality["trusted"]


def ended(count: int) -> list[Architecture]:
    """Networks of the least and most depths, at the smallest and the largest side."""
    generator = np.random.default_rng(5)
    choices = np.array(SPACE.genes())
    genes = generator.integers(0, choices, (count, len(choices)))
    genes[:, 1:32:4] = 2 * generator.integers(0, 2, (count, 8))
    genes[:, -1] = 2 * generator.integers(0, 2, count)
    return [SPACE.decode(row) for row in genes.tolist()]


def test_noise_of_single_differences_does_not_add_up():
    noise = np.random.default_rng(0)

    def timed(network: Architecture) -> float:
        return additive_ms(network) * float(np.exp(noise.normal(0, 0.03)))

    table, whole = table_of(timed), {n.code: timed(n) for n in drawn(60)}
    base = base_of(SPACE)

    def summed(network: Architecture) -> float:
        """Base and differences as they were timed, nothing smoothed."""
        own = table.ms[base.at(network.image_side).code]
        singles = [
            replace(base, stages=(*base.stages[:i], stage, *base.stages[i + 1 :]))
            for i, stage in enumerate(network.stages)
        ]
        singles.append(replace(base, head_width=network.head_width))
        return own + sum(table.ms[s.at(network.image_side).code] - own for s in singles)

    ends = [network for network in ended(40) if network.code not in whole]
    raw = np.mean([abs(summed(n) / additive_ms(n) - 1) for n in ends])
    smoothed = TableEstimator(table, whole).judge({n.code: additive_ms(n) for n in ends})
    assert smoothed["mape"] < 0.7 * raw


def test_whole_networks_correct_what_does_not_add_up():
    def cached(network: Architecture) -> float:  # each stage costs less in a whole network
        return 1.0 + 0.7 * (additive_ms(network) - 1.0)

    table, held_out = table_of(additive_ms), {n.code: cached(n) for n in drawn(30, 1)}
    calibrated = TableEstimator(table, {n.code: cached(n) for n in drawn(40)})
    blind = TableEstimator(table, {n.code: additive_ms(n) for n in drawn(40)})
    assert calibrated.judge(held_out)["mape"] < 0.02
    assert blind.judge(held_out)["mape"] > 0.15
    assert not blind.judge(held_out)["trusted"]


def test_parameters_are_those_of_the_network():
    networks = drawn(6)
    counted = Footprint(SPACE, 5).parameters(genes_of(SPACE, networks))
    built = [count_parameters(fuse(Detector(network, 5).eval())) for network in networks]
    assert counted.tolist() == built


def latency(ms: float) -> Latency:
    return Latency(ms, (ms, ms), None, None, 9, True)


def surveyed(error: float, *, trusted: bool) -> Surveyed:
    estimator = TableEstimator(table_of(additive_ms), {n.code: additive_ms(n) for n in drawn(20)})
    return Surveyed(estimator, {"trusted": trusted, "p95_error": error, "tau": 1.0})


def test_the_table_is_scaled_to_the_device_of_today():
    timed = {n.code: Timing(latency(2 * additive_ms(n)), latency(9), 1.0, None) for n in drawn(4)}
    limits = Limits(max_latency_ms=10.0)
    costs = Costs(SPACE, 3, limits, timed, surveyed(0.1, trusted=True))
    networks = drawn(9, 3)
    estimated = costs.ms(genes_of(SPACE, networks))
    assert estimated == pytest.approx([2 * additive_ms(n) for n in networks], rel=5e-3)
    assert costs.excess(genes_of(SPACE, networks))[:, 0] == pytest.approx(estimated / 10 - 1)
    near = {c for c, ms in zip([n.code for n in networks], estimated, strict=True) if 9 <= ms <= 11}
    assert {*costs.straddling([n.code for n in networks])} == near
    assert not costs.doubted
    assert Costs(SPACE, 3, limits, timed, surveyed(0.1, trusted=False)).doubted


def test_a_survey_times_each_network_once_and_keeps_it(tmp_path: Path, monkeypatch):
    space = SearchSpace(0.25, (64,))
    monkeypatch.setattr(survey, "entries", lambda space: [space.smallest, space.largest])
    times: list[int] = []

    class Counting:
        int8_spelling = "u8s8"

        def __init__(self) -> None:
            self.inputs = {"images_BCHW": ("tensor(float)", [1, 3, 64, 64])}

        def load(self, artifact: Path, threads: int) -> "Counting":
            return self

        def run(self, feeds: object) -> None:
            times.append(1)

    measure = tiny.PARAMS.measure.model_copy(update={"queries": 4, "warmup": 0, "max_drift": 1e9})
    graphs = SimpleNamespace(space=space, compose=Graphs(space, 3, 1).compose)
    made = Survey(graphs, Counting(), measure, 1, tmp_path / "records.jsonl", tmp_path)
    networks = [space.smallest, space.largest, space.smallest]
    first = made.time(networks, measure)
    assert {*first} >= {network.code for network in networks}
    asked = len(times)
    assert made.time(networks, measure) == first
    assert len(times) == asked
    assert not [*tmp_path.glob("*.onnx")]


def test_a_slow_device_is_asked_fewer_queries(tmp_path: Path):
    measure = tiny.PARAMS.measure
    for ms, least in ((1.0, measure.queries), (60.0, 4), (1e6, 4)):
        made = SimpleNamespace(
            measure=measure,
            graphs=SimpleNamespace(space=SPACE),
            time=lambda networks, _, ms=ms: {n.code: latency(ms) for n in networks},
        )
        assert survey.affordable(made, 600).queries == least


def test_entries_are_the_base_and_one_change_each():
    made = entries(SPACE)
    assert len({network.code for network in made}) == len(made)
    base = made[0]
    for network in made:
        at = replace(network, image_side=base.image_side)
        apart = sum(a != b for a, b in zip(at.stages, base.stages, strict=True))
        assert apart + (at.head_width != base.head_width) <= 1
