"""However bad an annotation file is, it is read in bounded memory and every fault is counted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BOXES = 300_000
LIMIT_MB = 512
SCRIPT = """
import json, re, sys
from pathlib import Path
from frontier.data.intake.assembly import Source, assemble
from frontier.data.formats.coco import Coco
from frontier.data.verdict.judged import Judged
from frontier.params import load_params

folder, params = Path(sys.argv[1]), load_params(Path(sys.argv[2]))
(folder / "spools").mkdir()
(folder / "judged").mkdir()
source = Source("mine", "mine", Coco(), folder, str(folder / "images"), wanted=())
workers = params.workers.model_copy(update={"jobs": 1})
assemble(source, folder / "catalog", folder / "spools", params.ingest, workers, 0)
found = Judged(folder / "catalog", folder / "judged", params.validate_)
records = found.tables()["records"].iloc[0].to_dict()
# of this program alone: ru_maxrss would remember the one that started it
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
counts = dict(found.counts)
records = {code: int(amount) for code, amount in records.items()}
print(json.dumps({"peak": peak, "counts": counts, "records": records}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("box", "code"),
    [
        ({"bbox": [1, 2, 3, 4]}, None),
        ({"bbox": [1, 2, float("nan"), 4]}, "not-finite"),
        ({"bbox": [1, 2, 3, 4], "category_id": 9}, "unknown-category"),
        ({"bbox": [1, 2, 3, 4], "image_id": 9}, "unknown-image"),
        ({"bbox": [1, 2, 3, 4], "id": 7}, "duplicate-id"),
    ],
)
def test_hundreds_of_thousands_of_bad_boxes(
    tmp_path: Path, box: dict[str, Any], code: str | None
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.png")
    plain = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": i, **plain, **box} for i in range(BOXES)],
    }
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    params = Path(__file__).parents[2] / "params.yaml"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(params)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    assert found["peak"] < LIMIT_MB
    counts, first = found["counts"], int(code == "duplicate-id")  # the first of its id is used
    assert (counts["boxes_in"], counts["boxes_dropped"]) == (BOXES, BOXES - first)
    if code is not None:
        assert found["records"][code] == BOXES - first
    else:  # more than an image may have
        assert counts["images_quarantined"] == 1
