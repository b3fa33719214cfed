"""Box formats, overlap, and the one letterbox that training, runtime and exported graph share.

Coordinates are pixel *edges*: a box over a whole image of width W spans x from 0 to W.
"""

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PAD_VALUE = 114  # grey of the letterbox border, as in the YOLO family


def xywh_to_xyxy(boxes_xywh: npt.ArrayLike) -> Floats:
    """COCO `[N, 4]` (left, top, width, height) to corners."""
    boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def xyxy_to_xywh(boxes_xyxy: npt.ArrayLike) -> Floats:
    """Corners `[N, 4]` to COCO (left, top, width, height)."""
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float32)


def clip(boxes_xyxy: Floats, size_hw: tuple[int, int]) -> Floats:
    """Cut `[N, 4]` boxes off at the border of an image of (height, width)."""
    height, width = size_hw
    inside: Floats = np.clip(boxes_xyxy, 0, np.array([width, height] * 2, np.float32))
    return inside


def area(boxes_xyxy: Floats) -> Floats:
    """Square pixels, `[N]`; a box turned inside out has none."""
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    areas: Floats = sides[:, 0] * sides[:, 1]
    return areas


def iou(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Intersection over union of every pair, `[N, M]` in 0..1; 0 where both are empty."""
    shared = _shared(a_xyxy[:, None], b_xyxy[None])
    return _ratio(shared, area(a_xyxy)[:, None] + area(b_xyxy)[None] - shared)


def paired_iou(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Intersection over union of a[i] and b[i], `[N]` in 0..1."""
    shared = _shared(a_xyxy, b_xyxy)
    return _ratio(shared, area(a_xyxy) + area(b_xyxy) - shared)


def coverage(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Share of each a that lies in each b, `[N, M]` in 0..1: how COCO overlaps a crowd."""
    shared = _shared(a_xyxy[:, None], b_xyxy[None])
    return _ratio(shared, np.broadcast_to(area(a_xyxy)[:, None], shared.shape))


def _shared(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """Square pixels in common."""
    low = np.maximum(a_xyxy[..., :2], b_xyxy[..., :2])
    high = np.minimum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    sides = np.clip(high - low, 0, None)
    shared: Floats = sides[..., 0] * sides[..., 1]
    return shared


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return ratio


class Letterbox:
    """How an image of any size lies in a square: scaled to fit, centred, bordered with grey.

    Rounding, to be mirrored wherever this is done again, in this order (OpenVINO takes a constant
    over a variable for its inverse): new = max(1, floor(dim * side / longest + 0.5)), padding
    left / top = (side - new) // 2. Boxes scale by the *rounded* size over the original,
    per axis, which is what happens to the pixels.
    """

    def __init__(self, size_hw: tuple[int, int], side: int) -> None:
        """The letterbox of an image of (height, width) in a square of `side` pixels."""
        height, width = int(size_hw[0]), int(size_hw[1])
        self.size_hw, self.side = (height, width), side
        longest = max(height, width)
        self.ratio = side / longest
        new_h = max(1, int(height * side / longest + 0.5))
        new_w = max(1, int(width * side / longest + 0.5))
        self.new_hw = (new_h, new_w)
        self.top, self.left = (side - new_h) // 2, (side - new_w) // 2

    @property
    def scale_xyxy(self) -> Floats:
        """Square pixels per original pixel, `[4]`."""
        y, x = self.new_hw[0] / self.size_hw[0], self.new_hw[1] / self.size_hw[1]
        return np.array([x, y, x, y], np.float32)

    @property
    def pad_xyxy(self) -> Floats:
        """Border on the left and the top, `[4]`."""
        return np.array([self.left, self.top, self.left, self.top], np.float32)

    def to_square(self, boxes_xyxy: Floats) -> Floats:
        """Boxes `[N, 4]` in original pixels to pixels of the square."""
        return boxes_xyxy * self.scale_xyxy + self.pad_xyxy

    def from_square(self, boxes_xyxy: Floats) -> Floats:
        """Boxes `[N, 4]` in pixels of the square to original pixels, clipped to the image."""
        return clip((boxes_xyxy - self.pad_xyxy) / self.scale_xyxy, self.size_hw)

    def image(self, image_HWC: Pixels) -> Pixels:
        """The image `[H, W, 3]` as `[side, side, 3]`, bilinear."""
        square = np.full((self.side, self.side, 3), PAD_VALUE, np.uint8)
        bottom, right = self.top + self.new_hw[0], self.left + self.new_hw[1]
        square[self.top : bottom, self.left : right] = resize(image_HWC, self.new_hw)
        return square


def resize(image_HWC: Pixels, size_hw: tuple[int, int]) -> Pixels:
    """Bilinear resize to (height, width), half-pixel centres, ties to even.

    In floats, as the exported graph does it: OpenCV's resize of bytes is coarser, and would put
    a tenth of all pixels one grey level off, most of them in the same direction.
    """
    if image_HWC.shape[:2] == size_hw:
        return image_HWC
    floats = image_HWC.astype(np.float32)
    resized = cv2.resize(floats, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.rint(resized).astype(np.uint8)
