"""Grounds and fills of the generated images; all `[H, W, 3]` uint8 RGB."""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Rng = np.random.Generator

MUTED = 0.7  # share of a ground's colour that is taken out
HUE_SPREAD = 14.0  # degrees
CONTRAST = 150.0  # least sum of channel differences between a fill and what it covers


def noise(rng: Rng, size_hw: tuple[int, int]) -> Pixels:
    """Smooth random colours, coarse or fine."""
    cells, spread = int(rng.integers(3, 24)), int(rng.integers(20, 80))
    small = rng.integers(spread, 256 - spread, 3) + rng.integers(-spread, spread, (cells, cells, 3))
    small = small.astype(np.uint8)
    return np.asarray(cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def gradient(rng: Rng, size_hw: tuple[int, int]) -> Pixels:
    """Four corner colours blended."""
    corners = rng.integers(20, 236, (2, 2, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(corners, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def stripes(rng: Rng, size_hw: tuple[int, int]) -> Pixels:
    """Soft stripes of two colours at any angle."""
    period = rng.uniform(6, 50)
    return _mixed(rng, 0.5 + 0.5 * np.sin(_ramp(rng, size_hw) * np.float32(2 * np.pi / period)))


def checks(rng: Rng, size_hw: tuple[int, int]) -> Pixels:
    """Two crossed square waves of two colours."""
    period = rng.uniform(14, 60)
    waves = [np.floor(_ramp(rng, size_hw) / np.float32(period)) for _ in range(2)]
    return _mixed(rng, np.mod(waves[0] + waves[1], 2).astype(np.float32))


def patches(rng: Rng, size_hw: tuple[int, int]) -> Pixels:
    """Hard-edged blocks of colour."""
    cells = rng.integers(3, 9, 2)
    small = rng.integers(30, 226, (*cells, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def clutter(rng: Rng, image_HWC: Pixels) -> Pixels:
    """Strew faint irregular blots and scratches over a ground."""
    height, width = image_HWC.shape[:2]
    layer = image_HWC.copy()
    for _ in range(rng.integers(0, 9)):
        centre = rng.uniform((0, 0), (width, height))
        blot = centre + rng.normal(0, rng.uniform(6, 40), (int(rng.integers(5, 9)), 2))
        colour = rng.integers(20, 236, 3).tolist()
        cv2.fillPoly(layer, [blot.astype(np.int32)], colour, cv2.LINE_AA)
    for _ in range(rng.integers(0, 6)):
        ends = rng.integers((0, 0), (width, height), (2, 2)).tolist()
        cv2.line(layer, ends[0], ends[1], rng.integers(0, 256, 3).tolist(), 1, cv2.LINE_AA)
    weight = float(rng.uniform(0.15, 0.45))
    return np.asarray(cv2.addWeighted(layer, weight, image_HWC, 1 - weight, 0), np.uint8)


def muted(image_HWC: Pixels) -> Pixels:
    """The ground with most of its colour taken out: things stand out from where they are."""
    grey = cv2.cvtColor(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image_HWC, 1 - MUTED, grey, MUTED, 0), np.uint8)


def typical(rng: Rng, hue: float) -> npt.NDArray[np.float64]:
    """A vivid colour near a hue (degrees)."""
    turned = (hue + rng.normal(0, HUE_SPREAD)) % 360
    hsv = np.array([[[turned, rng.uniform(0.6, 1.0), rng.uniform(130, 240)]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float64)


def paint(rng: Rng, view_HWC: Pixels, mask_HW: Pixels, hue: float | None = None) -> None:
    """Blend a fresh fill, of a typical `hue` or of any colour, where `mask_HW` (0..255) says so."""
    size_hw = mask_HW.shape[0], mask_HW.shape[1]
    ground = np.array(cv2.mean(view_HWC, mask_HW)[:3])
    colour = _contrasting(rng, ground) if hue is None else typical(rng, hue)
    fill: Floats = np.empty((*size_hw, 3), np.float32)
    fill[:] = colour
    kind = rng.integers(4)
    if kind == 1:  # shaded
        fill *= rng.uniform(0.7, 1.0) + 0.3 * _unit(_ramp(rng, size_hw))[..., None]
    elif kind == 2:  # striped
        wave = np.sin(_ramp(rng, size_hw) * np.float32(2 * np.pi / rng.uniform(4, 14)))
        fill += (wave * np.float32(rng.uniform(12, 40)))[..., None]
    elif kind == 3:  # mottled
        fill += noise(rng, size_hw) * np.float32(0.35) - 45
    alpha = (mask_HW * np.float32(rng.uniform(0.85, 1.0) / 255))[..., None]
    if rng.uniform() < 0.3:  # a rim, darker or lighter
        rim = (mask_HW > 127) & (cv2.erode(mask_HW, np.ones((3, 3), np.uint8)) <= 127)
        fill[rim] *= np.float32(rng.choice([0.4, 1.6]))
    np.clip(fill, 0, 255, out=fill)
    fill -= view_HWC
    fill *= alpha
    fill += view_HWC
    view_HWC[:] = fill.astype(np.uint8)


def _contrasting(rng: Rng, ground: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    for _ in range(8):
        colour = rng.uniform(15, 240, 3)
        if np.abs(colour - ground).sum() >= CONTRAST:
            break
    return colour


def _ramp(rng: Rng, size_hw: tuple[int, int]) -> Floats:
    """Distance in pixels along a random direction, `[H, W]`."""
    angle = rng.uniform(0, np.pi)
    down = np.arange(size_hw[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    across = np.arange(size_hw[1], dtype=np.float32)[None] * np.float32(np.cos(angle))
    return down + across


def _unit(values: Floats) -> Floats:
    low, high = float(values.min()), float(values.max())
    return (values - np.float32(low)) / np.float32(max(high - low, 1.0))


def _mixed(rng: Rng, share: Floats) -> Pixels:
    first, second = rng.integers(30, 226, (2, 3))
    steps = np.linspace(first, second, 256).astype(np.uint8)
    mixed: Pixels = steps[(share * 255).astype(np.uint8)]
    return mixed
