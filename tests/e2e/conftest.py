"""One whole run that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.e2e import checkout


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = checkout.copy(tmp_path_factory.mktemp("smoke"))
    answer = checkout.frontier(root, "run", "--preset", "smoke")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return root
