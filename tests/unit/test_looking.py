"""`frontier predict`: one drawing per image, and a damaged image stops no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frontier.errors import DataError
from frontier.runtime import predictor
from pipelines import looking

CHECKOUT = Path(__file__).resolve().parents[2]


class Blind:
    """Sees nothing, in any image."""

    classes = ("bolt",)

    def __init__(self, *_: Any) -> None:
        pass

    def __call__(self, image: Any) -> predictor.Prediction:
        nothing = np.zeros(0, np.float32)
        return predictor.Prediction(nothing.reshape(0, 4), nothing, nothing.astype(np.int64))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(predictor, "Predictor", Blind)
    (tmp_path / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text())
    (tmp_path / "data" / "export" / "onnxruntime-cpu" / "bundle").mkdir(parents=True)
    return tmp_path


def photo(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_images_of_one_name_do_not_overwrite_each_other(root: Path) -> None:
    names = ("a/x.png", "b/x.png", "b/x-2.png", "c/x.jpg", "y.png")
    looking.predict(root, [photo(root / name) for name in names], root / "out", None, 0.3)
    drawn = sorted(path.name for path in (root / "out").iterdir())
    assert drawn == ["x-2-2.png", "x-2.png", "x-3.png", "x.png", "y.png"]


def test_an_unreadable_image_stops_no_other(root: Path) -> None:
    damaged = root / "damaged.png"
    damaged.write_bytes(b"no image")
    images = [damaged, photo(root / "good.png")]
    with pytest.raises(DataError, match="1 of 2 images") as refused:
        looking.predict(root, images, root / "out", None, 0.3)
    assert refused.value.exit_code == 65
    assert "damaged.png" in str(refused.value)
    assert [path.name for path in (root / "out").iterdir()] == ["good.png"]
