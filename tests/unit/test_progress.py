"""What the terminal says while stages run."""

import io

from rich.console import Console

from pipelines.progress import Display


def test_a_warning_of_a_stage_is_said() -> None:
    said = io.StringIO()
    display = Display(Console(file=said), 1)
    display.progressed("teacher", {"event": "progress", "done": 1, "total": 2, "text": ""})
    assert said.getvalue() == ""
    display.progressed("teacher", {"event": "warning", "text": "[a] is damaged"})
    assert said.getvalue() == "teacher: warning: [a] is damaged\n"
