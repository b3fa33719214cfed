"""16 kinds of file name that mean to leave the dataset, at every place that takes names."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from frontier.data.formats.reading import Fault, inside, regular_file
from frontier.data.intake.probing import probe
from frontier.errors import UsageError
from frontier.files import safe_join

KINDS: dict[str, str] = {
    "upwards": "../secret",
    "upwards from below": "a/../../secret",
    "absolute": "{outside}/secret",
    "with backslashes": "..\\secret",
    "URL-encoded": "%2e%2e%2fsecret",
    "twice encoded": "%252e%252e%252fsecret",
    "NUL": "../secret\0.jpg",
    "NUL alone": "a\0.jpg",
    "a link": "link",
    "below a link": "folder/secret",
    "a device": "device",
    "a pipe": "pipe",
    "in another case": "LINK",
    "5,000 letters": "a" * 5000,
    "dots of Unicode": "\u2025/secret",
    "half a character": "\ud800",
}


def opened(root: Path, name: str) -> bool:
    return probe(root, name).sha256 != ""


def listed(root: Path, name: str) -> bool:
    try:
        return bool(regular_file(root, name).read_bytes())
    except Fault:
        return False


def entered(root: Path, name: str) -> bool:
    """As a place, such as `train:` of data.yaml: nothing outside is found."""
    try:
        found = inside(root, name).resolve()
    except Fault:
        return False
    return not found.is_relative_to(root.resolve())


def joined(root: Path, name: str) -> bool:
    try:
        place = os.path.realpath(safe_join(root, name))
    except UsageError:
        return False
    return not Path(place).is_relative_to(root)


@pytest.mark.parametrize("entry", [opened, listed, entered, joined], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(10)  # a pipe would block for ever
def test_nothing_outside_is_read(
    tmp_path: Path, kind: str, entry: Callable[[Path, str], bool]
) -> None:
    outside, root = tmp_path.resolve(), tmp_path.resolve() / "mine"
    root.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe")
    (root / "a").mkdir()
    assert not entry(root, KINDS[kind].format(outside=outside))


def test_a_hard_link_is_a_file_of_its_folder(tmp_path: Path) -> None:
    """Nothing tells it from any other: who can make one, may read the file."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "mine").mkdir()
    os.link(tmp_path / "secret", tmp_path / "mine" / "a.jpg")
    assert probe(tmp_path / "mine", "a.jpg").status == "not-an-image"
