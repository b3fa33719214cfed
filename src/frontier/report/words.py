"""How the report writes a number. Whatever is absent (None, NaN, undefined) becomes a dash."""

import math
from collections.abc import Sequence
from typing import Any

DASH = "–"
MINUS = "\N{MINUS SIGN}"


def number(value: Any) -> float | None:
    """The value as a finite float, or None where there is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def ap(value: Any, digits: int = 3) -> str:
    """AP as a fraction."""
    found = number(value)
    return DASH if found is None else _fixed(found, digits)


def ms(value: Any) -> str:
    """Milliseconds, three significant digits between 1 and 1000."""
    found = number(value)
    if found is None:
        return DASH
    size = abs(found)
    return _fixed(found, 0 if size >= 100 else 1 if size >= 10 else 2)


def signed(value: Any, digits: int = 3) -> str:
    """With its sign, also where it is positive."""
    found = number(value)
    if found is None:
        return DASH
    text = _fixed(found, digits)
    return f"+{text}" if found > 0 and float(text) else text


def interval(bounds: Any, unit: str = "ap") -> str:
    """Low to high of a two-sided interval, in the digits of its unit ("ap" or "ms")."""
    if not isinstance(bounds, Sequence) or len(bounds) != 2:
        return DASH
    low, high = (number(bound) for bound in bounds)
    if low is None or high is None:
        return DASH
    write = ap if unit == "ap" else ms
    return f"{write(low)}{' to ' if low < 0 else DASH}{write(high)}"


def _fixed(value: float, digits: int) -> str:
    """Fixed digits with a true minus, so that columns align; zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def percent(value: Any) -> str:
    """A fraction as a whole percentage."""
    found = number(value)
    return DASH if found is None else f"{found:.0%}"


def size(value: Any) -> str:
    """Bytes in decimal units."""
    found = number(value)
    if found is None:
        return DASH
    return f"{found / 1e6:.1f} MB" if found >= 1e6 else f"{found / 1e3:.0f} kB"


def count(value: Any) -> str:
    found = number(value)
    return DASH if found is None else f"{found:,.0f}"


def ratio(numerator: Any, denominator: Any) -> float | None:
    above, below = number(numerator), number(denominator)
    return above / below if above is not None and below else None


def times(value: Any) -> str:
    """A factor: 1.84 -> "1.8×"."""
    found = number(value)
    return DASH if found is None else f"{found:.1f}×"


def plural(amount: int, noun: str, many: str = "") -> str:
    """The amount with its noun; `many` where the plural takes more than an s."""
    return f"{amount:,} {noun if amount == 1 else many or f'{noun}s'}"


def sentence(text: Any) -> str:
    """Somebody's reason as a sentence: capital first letter, full stop; empty stays empty."""
    plain = str(text or "").strip()
    if not plain:
        return ""
    return plain[0].upper() + plain[1:] + ("" if plain[-1] in ".!?" else ".")
