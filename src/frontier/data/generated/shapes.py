"""Outlines of the generated classes: contours in a unit circle, even-odd filled."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # [n, 2], x to the right and y down
Contours = list[Points]


def _turns(count: int, radius: float = 1.0, start: float = 0.0) -> Points:
    angles = start + np.arange(count) * (2 * np.pi / count)
    return radius * np.stack([np.sin(angles), -np.cos(angles)], axis=-1)


def _arc(centre_x: float, radius: float, start: float, end: float, count: int = 40) -> Points:
    angles = np.linspace(start, end, count)
    return np.stack([centre_x + radius * np.cos(angles), radius * np.sin(angles)], axis=-1)


def _star(tips: int, inner: float) -> Points:
    radii = np.tile([1.0, inner], tips)[:, None]
    return np.asarray(_turns(2 * tips) * radii)


def _list(*flat: float) -> Points:
    return np.array(flat, np.float64).reshape(-1, 2)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=-1) / 17


def _gear() -> Points:
    radii = np.tile([1.0, 1.0, 0.7, 0.7], 8)[:, None]
    return np.asarray(_turns(32) * radii)


_ARM = 0.34  # half the width of a bar in a unit circle

MAIN: dict[str, Contours] = {
    "disc": [_turns(48)],
    "ring": [_turns(48), _turns(48, 0.58)],
    "square": [_turns(4, start=np.pi / 4)],
    "triangle": [_turns(3)],
    "star": [_star(5, 0.42)],
    "cross": [
        _list(
            *(-_ARM, -1, _ARM, -1, _ARM, -_ARM, 1, -_ARM, 1, _ARM, _ARM, _ARM),
            *(_ARM, 1, -_ARM, 1, -_ARM, _ARM, -1, _ARM, -1, -_ARM, -_ARM, -_ARM),
        )
    ],
    "crescent": [
        np.concatenate([_arc(0, 1, 0.6, 2 * np.pi - 0.6), _arc(0.5, 0.65, 2 * np.pi - 1.05, 1.05)])
    ],
    "arrow": [_list(1, 0, 0.1, -0.75, 0.1, -0.3, -1, -0.3, -1, 0.3, 0.1, 0.3, 0.1, 0.75)],
}

ALL: dict[str, Contours] = {
    **MAIN,
    "hexagon": [_turns(6)],
    "heart": [_heart()],
    "gear": [_gear()],
    "half_disc": [_arc(0, 1, 0, np.pi)],
    "bolt": [_list(-0.1, -1, 0.5, -1, 0.15, -0.25, 0.6, -0.25, -0.35, 1, 0, 0.1, -0.5, 0.1)],
    "angle": [_list(-0.8, -0.8, -0.2, -0.8, -0.2, 0.3, 0.8, 0.3, 0.8, 0.8, -0.8, 0.8)],
    "frame": [_turns(4, start=np.pi / 4), _turns(4, 0.6, start=np.pi / 4)],
    "bar": [_list(-1, -0.22, 1, -0.22, 1, 0.22, -1, 0.22)],
}


def posed(rng: np.random.Generator, contours: Sequence[Points], radius: float) -> Contours:
    """Turn by any angle, stretch a little, then scale so that the reach is `radius` pixels."""
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.78, 1.0)
    slant = rng.uniform(-0.2, 0.2)
    cos, sin = np.cos(angle), np.sin(angle)
    pose = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, slant], [0, stretch]])
    moved = [part @ pose.T for part in contours]
    reach = max(float(np.linalg.norm(part, axis=1).max()) for part in moved)
    return [part * (radius / reach) for part in moved]


def bezier(ends: Points) -> Points:
    """A cubic curve `[32, 2]` through the first and last of four control points."""
    t = np.linspace(0, 1, 32)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    curve: Points = weights @ ends
    return curve
