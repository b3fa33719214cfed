"""Two clean runs agree byte for byte, measured latencies reused."""

import re
import shutil
from pathlib import Path

import pytest

from frontier.files import read_json
from tests.e2e import checkout

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
# Great Expectations stamps its pages with the time; TensorRT's builder does not repeat its bytes.
UNREPEATABLE = re.compile(r"^validate/data_docs/|^export/tensorrt/.*(engine|manifest)|^report/")


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every model, table and metric file that the stages made."""
    found = {}
    for manifest in sorted((root / "data").rglob("manifest.json")):
        folder = manifest.parent.relative_to(root / "data")
        for name, entry in read_json(manifest).items():
            if not UNREPEATABLE.match(f"{folder}/{name}"):
                found[f"{folder}/{name}"] = entry["sha256"]
    for metrics in sorted((root / "data" / "metrics").iterdir()):
        found[f"metrics/{metrics.name}"] = metrics.read_text()
    return found


def test_two_clean_runs_agree(project: Path, tmp_path: Path) -> None:
    again = checkout.copy(tmp_path / "again")
    shutil.copytree(project / "data" / "latency", again / "data" / "latency")
    answer = checkout.frontier(again, "run", "--preset", "smoke", "--set", "measure.latency=reuse")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    first, second = digests(project), digests(again)
    assert {*first} == {*second}
    assert not [name for name, digest in first.items() if second[name] != digest]
    assert any("model.safetensors" in name for name in first)
    assert any("quantized.onnx" in name for name in first)
