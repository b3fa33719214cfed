"""Work on shards, by processes of this machine or of a Dask or Ray cluster, through joblib.

A shard is a tuple of arguments. A function gets all that it needs in them and returns plain values
or tables; a path must lead to the same file on every machine.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import joblib

from frontier.errors import UsageError
from frontier.params import Workers

Result = TypeVar("Result")

# joblib goes on while nobody takes its results: without a bound, a slow reader drowns in them
WINDOW = 512
PATIENCE_S = 10.0


def run(
    function: Callable[..., Result], shards: Iterable[tuple[Any, ...]], workers: Workers
) -> Iterator[Result]:
    """`function(*shard)` of each shard, in their order, at most `WINDOW` shards ahead.

    Raises:
        UsageError: the cluster's package is not installed, or nothing answers at its address.
    """
    calls = (joblib.delayed(function)(*shard) for shard in shards)
    with BACKENDS[workers.backend](workers) as parallel, parallel:
        while window := list(itertools.islice(calls, WINDOW)):
            yield from parallel(window)


@contextlib.contextmanager
def _local(workers: Workers) -> Iterator[joblib.Parallel]:
    yield joblib.Parallel(workers.jobs, "loky", "generator", batch_size=1)


@contextlib.contextmanager
def _dask(workers: Workers) -> Iterator[joblib.Parallel]:
    try:
        from distributed import Client
    except ImportError:
        raise _not_installed("dask", "'dask[distributed]'") from None
    with contextlib.ExitStack() as stack:
        try:
            client = Client(workers.address, timeout=PATIENCE_S, set_as_default=False)
            stack.enter_context(client)
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except (OSError, ValueError) as error:
            raise _no_answer(workers, error) from None
        with joblib.parallel_config("dask", client=client):
            parallel = joblib.Parallel(-1, return_as="generator", batch_size=1)
        yield parallel


@contextlib.contextmanager
def _ray(workers: Workers) -> Iterator[joblib.Parallel]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise _not_installed("ray", "'ray[client]'") from None
    try:
        connection = ray.init(address=workers.address, ignore_reinit_error=True)
    except (OSError, ValueError) as error:
        raise _no_answer(workers, error) from None
    with connection:
        register_ray()
        with joblib.parallel_config("ray"):
            parallel = joblib.Parallel(-1, batch_size=1)  # its backend knows no generators
        yield parallel


def _not_installed(backend: str, package: str) -> UsageError:
    return UsageError(
        f"workers.backend: {backend} is not installed; run `pip install {package}`, "
        "or set it to local"
    )


def _no_answer(workers: Workers, error: Exception) -> UsageError:
    cause = " ".join(str(error).split())[:200] or type(error).__name__
    return UsageError(
        f"workers.address: no {workers.backend} cluster with a worker at {workers.address!r} "
        f"within {PATIENCE_S:g} s ({cause})"
    )


BACKENDS = {"local": _local, "dask": _dask, "ray": _ray}
