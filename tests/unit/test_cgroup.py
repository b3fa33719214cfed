"""A container's memory limit, by fake files of both versions of control groups."""

from pathlib import Path

import pytest
import torch

from frontier.training import cgroup, memory

MB = 10**6
UNLIMITED_V1 = 9223372036854771712


def group(folder: Path, version: int, limit: object, used: int, unused_files: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit_name, used_name, unused_name = cgroup.V1 if version == 1 else cgroup.V2
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / used_name).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 1\n{unused_name} {unused_files}\nanon 5\n")


def member(root: Path, *lines: str) -> Path:
    """A root in which this process is in such groups; its `sys/fs/cgroup`."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text("\n".join(lines) + "\n")
    return root / "sys" / "fs" / "cgroup"


def test_version_2_in_a_namespace_of_its_own(tmp_path: Path) -> None:
    group(member(tmp_path, "0::/"), 2, 2000 * MB, 700 * MB)
    assert cgroup.free_bytes(tmp_path) == 1300 * MB


def test_unused_file_pages_are_free(tmp_path: Path) -> None:
    group(member(tmp_path, "0::/"), 2, 2000 * MB, 1900 * MB, unused_files=1200 * MB)
    assert cgroup.free_bytes(tmp_path) == 1300 * MB


def test_the_tightest_of_the_groups_around_it_counts(tmp_path: Path) -> None:
    top = member(tmp_path, "0::/user.slice/job.scope")
    group(top / "user.slice" / "job.scope", 2, 5000 * MB, 100 * MB)
    group(top / "user.slice", 2, 3000 * MB, 2500 * MB)  # others of the slice took most
    assert cgroup.free_bytes(tmp_path) == 500 * MB
    group(top / "user.slice", 2, "max", 2500 * MB)
    assert cgroup.free_bytes(tmp_path) == 4900 * MB


def test_version_1_and_a_path_of_the_host(tmp_path: Path) -> None:
    top = member(tmp_path, "9:cpu,cpuacct:/docker/ab", "4:memory:/docker/ab", "0::/")
    group(top / "memory", 1, 1500 * MB, 600 * MB)
    assert cgroup.free_bytes(tmp_path) == 900 * MB


def test_without_a_limit_nothing_is_said(tmp_path: Path) -> None:
    assert cgroup.free_bytes(tmp_path) is None  # no control groups at all
    top = member(tmp_path, "0::/here")
    assert cgroup.free_bytes(tmp_path) is None  # not mounted
    group(top / "here", 2, "max", 100 * MB)
    assert cgroup.free_bytes(tmp_path) is None


def test_a_group_beyond_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group(member(tmp_path, "0::/"), 2, 100 * MB, 120 * MB)
    assert cgroup.free_bytes(tmp_path) == 0


@pytest.mark.parametrize(("left", "expected"), [(123, 123), (UNLIMITED_V1, None), (None, None)])
def test_free_memory_is_at_most_what_the_container_has(monkeypatch, left, expected) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(cgroup, "free_bytes", lambda: left)
    free = memory.free_bytes(cpu)
    assert free == expected if expected else free > 10 * MB
