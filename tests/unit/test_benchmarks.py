"""Benchmarks are run by hand; that they can start is tested here."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # they are run as scripts
    importlib.import_module(name)
