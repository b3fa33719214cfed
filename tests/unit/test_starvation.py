"""What is said of a stage that the kernel killed for memory."""

from pipelines.repro import _starvation

PLAN = {"event": "params", "params": {"plan.steps": 90, "plan.batch_size": 16}}
PEAKS = [
    {"event": "metrics", "step": step, "metrics": {"peak_memory_bytes": step * 1e9}}
    for step in (1, 3)
]


def test_the_last_peak_and_a_batch_to_try_are_named() -> None:
    assert _starvation("teacher", [PLAN, *PEAKS]) == (
        "teacher: out of memory at a peak of 3.00 GB or more: killed by the kernel; "
        "set train.batch_size=8, or auto; checkpoints are whole"
    )
    assert "batch_size" not in _starvation("export", [])
