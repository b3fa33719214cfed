"""What a killed flow had not sent is kept for the next one."""

from pathlib import Path

import pytest

from frontier import tracking
from frontier.tracking.record import Tracker


@pytest.mark.parametrize("run_id", ["3f2a", None])
def test_a_leftover_journal_is_spooled_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_id: str | None
) -> None:
    journals = tmp_path / ".work" / "journals"
    monkeypatch.setenv("FRONTIER_JOURNAL", str(journals / "teacher.jsonl"))
    tracking.log_event("start", run_id=run_id)
    tracking.log_metrics({"loss": 0.5}, step=1)
    (journals / "empty.jsonl").touch()
    Tracker(tmp_path, lambda _: None)._collect_orphans()
    assert not [*journals.glob("*.jsonl")]
    (spooled,) = (journals / "unsent").glob("*-teacher.jsonl")
    context, *events = [event for _, event in tracking.read_events(spooled)]
    assert (context["stage"], context["run_id"]) == ("teacher", run_id)
    assert [event["event"] for event in events] == ["start", "metrics"]
