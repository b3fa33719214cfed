"""Vendor SDKs that tests need."""

import importlib
import platform
from typing import Any

import pytest


def tensorrt_rtx() -> Any:
    """The builder that needs no GPU: a dependency on Linux x86-64, where no test may go without.

    Skips the test elsewhere.
    """
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        return importlib.import_module("tensorrt_rtx")
    return pytest.importorskip("tensorrt_rtx")
