"""Work on shards: the same results wherever it is done, and clear words where it cannot be."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from frontier.data import workers
from frontier.data.generated.synthetic import MAIN, scene
from frontier.data.intake.probing import probe_shard
from frontier.errors import UsageError
from frontier.params import Workers

HERE = Workers(backend="local", jobs=1, address=None)


def elsewhere(backend: str, address: str) -> Workers:
    return Workers(backend=backend, jobs=1, address=address)


def test_results_come_in_order_and_no_further_ahead_than_a_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "WINDOW", 4)
    taken = []

    def shards() -> Iterator[tuple[int, int]]:
        for number in range(10):
            taken.append(number)
            yield number, 2

    results = workers.run(pow, shards(), HERE)
    assert [next(results), next(results)] == [0, 1]
    assert taken == [0, 1, 2, 3]
    assert [*results] == [number**2 for number in range(2, 10)]


def test_an_error_in_a_shard_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        [*workers.run(divmod, [(1, 1), (1, 0)], HERE)]


def test_a_cluster_needs_an_address() -> None:
    with pytest.raises(ValidationError, match=r"workers\.address: backend dask needs"):
        Workers(backend="dask", jobs=1, address=None)


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_named(
    backend: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{backend} is not installed; run `pip install"):
        [*workers.run(pow, [(1, 2)], elsewhere(backend, "tcp://127.0.0.1:1"))]


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE_S", 0.3)
    with pytest.raises(UsageError, match=r"no dask cluster with a worker at 'tcp://127.0.0.1:1'"):
        [*workers.run(pow, [(1, 2)], elsewhere("dask", "tcp://127.0.0.1:1"))]


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(workers, "WINDOW", 5)
    names = [f"{i}.jpg" for i in range(60)]
    for i, name in enumerate(names):
        image = np.ascontiguousarray(scene((2, 0, i), MAIN).image_HWC)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / names[7]).write_bytes(b"")
    shards = [(tmp_path, names[start : start + 8]) for start in range(0, 60, 8)]
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster:
        settings = [HERE, HERE.model_copy(update={"jobs": 2})]
        settings.append(elsewhere("dask", cluster.scheduler_address))
        tables = [pa.concat_tables(workers.run(probe_shard, shards, s)) for s in settings]
    assert tables[0].num_rows == 60
    assert tables[0]["status"].to_pylist().count("ok") == 59
    assert len({as_bytes(table) for table in tables}) == 1


def as_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
