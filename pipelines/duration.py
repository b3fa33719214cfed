"""Durations as people write them: 90m, 2h, 1h30m."""

import math
import re

from frontier.errors import UsageError

UNITS_S = {"h": 3600, "m": 60, "s": 1}
_WRITTEN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse(text: str, option: str) -> float:
    """Seconds of `90m`, `2h`, `1h30m` or `45s`.

    Raises:
        UsageError: written otherwise, or nothing.
    """
    match = _WRITTEN.fullmatch(text.strip().lower())
    parts = match.groups() if match else ()
    seconds = sum(
        float(part) * unit for part, unit in zip(parts, UNITS_S.values(), strict=False) if part
    )
    if not seconds:
        raise UsageError(f"{option} {text}: no duration; write it like 90m, 2h or 1h30m")
    return seconds


def shown(seconds: float) -> str:
    """Hours and minutes; below ten minutes minutes and seconds."""
    if seconds < 600:
        whole = round(seconds)
        return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m"


def whole_minutes(seconds: float) -> str:
    """At least so long, as an option takes it."""
    minutes = math.ceil(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{rest}m" if rest or not hours else "")
