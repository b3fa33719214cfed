"""What the user sees while stages run: live bars on a terminal, one line per change elsewhere."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class Display:
    """Started, progress and finished, from several threads at once."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self._total = total
        self._finished = 0
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.fields[text]:24}"),
            TimeElapsedColumn(), Remaining(), console=console, transient=True, refresh_per_second=2,
        )  # fmt: skip

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        with self._progress if self.console.is_terminal else contextlib.nullcontext():
            yield

    def started(self, stage: str, last_s: float | None) -> None:
        expected = f" (took {last_s:.0f} s last time)" if last_s else ""
        if self.console.is_terminal:
            self._bars[stage] = self._progress.add_task(stage, total=None, text=expected)
        else:
            self.say(f"{stage}: started{expected}")

    def progressed(self, stage: str, event: Mapping[str, Any]) -> None:
        if event["event"] == "warning":
            self.say(f"{stage}: warning: {event['text']}")
        if event["event"] == "progress" and stage in self._bars:
            self._progress.update(
                self._bars[stage],
                completed=event["done"],
                total=event["total"],
                text=f"{event['text']} {event['done']}/{event['total']}",
            )

    def finished(self, stage: str, outcome: str, seconds: float) -> None:
        self._finished += 1
        self._remove(stage)
        self.say(f"{stage}: {outcome} in {seconds:.1f} s  [{self._finished}/{self._total}]")

    def failed(self, stage: str, message: str) -> None:
        self._remove(stage)
        self.say(f"{stage}: failed: {message.splitlines()[0]}")

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _remove(self, stage: str) -> None:
        if stage in self._bars:
            self._progress.remove_task(self._bars.pop(stage))
