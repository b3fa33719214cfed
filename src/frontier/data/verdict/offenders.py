"""The worst images of a dataset, kept while it is judged, to be shown on its card."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from frontier.boxes import xywh_to_xyxy
from frontier.data.catalog import clip_each
from frontier.data.verdict.faults import CODES, OK, BoxFaults
from frontier.data.verdict.flags import Shard

Array = npt.NDArray[Any]

MOST = 12
MOST_PAIRS = 4
DOUBTS = ("extreme-aspect", "suspicious-box")  # of boxes that are used all the same
LEAKS = ("no-leak", "no-near-leak")


class Offender(NamedTuple):
    """An image with N boxes, some of them odd.

    Attributes:
        row: its place in the images table.
        code: "ok", or why the whole image is quarantined.
        faulty: boxes that are repaired or dropped; 1 for a quarantined image without any.
        doubted: boxes that look odd and are used.
        boxes_xyxy: clipped, in pixels, `[N, 4]`; none of an image with too many.
        box_codes: "ok", what is wrong with the box, or `code` of a quarantined image.
        category_ids: `[N]`.
    """

    row: int
    split: str
    file_name: str
    code: str
    faulty: int
    doubted: int
    boxes_xyxy: Array
    box_codes: list[str]
    category_ids: list[int]


class Offenders:
    """The images with most faulty boxes, then most doubted ones, of all shards that went by.

    Attributes:
        worst: at most `most`, the worst first; of equals the earlier one.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.worst: list[Offender] = []
        self._rows = 0

    def add(self, shard: Shard, code: Array, found: BoxFaults, table: Any) -> None:
        """Look through a shard.

        Args:
            shard: with the boxes of all its images.
            code: of the images, from `flags.image_codes`.
            found: of the boxes of usable images.
            table: from `flags.outcomes`.
        """
        usable = code == "ok"
        doubts = _doubts(found)
        judged = usable[shard.rows]
        doubted = np.bincount(shard.rows[judged][doubts != ""], minlength=len(code))
        faulty = table["repaired"].to_numpy() + table["dropped"].to_numpy()
        faulty[~usable] = np.maximum(faulty[~usable], 1)
        decodes = shard.images["status"].to_numpy(zero_copy_only=False) == "ok"
        order = np.lexsort((-doubted, -faulty))  # stable: equals stay in the order of their rows
        chosen = order[(decodes & (faulty + doubted > 0))[order]][: self.most]
        box_codes = code[shard.rows]
        box_codes[judged] = np.where(doubts != "", doubts, np.array(CODES)[found.code])
        self.worst += [
            self._offender(shard, i, str(code[i]), (int(faulty[i]), int(doubted[i])), box_codes)
            for i in chosen.tolist()
        ]
        self.worst.sort(key=lambda offender: (-offender.faulty, -offender.doubted, offender.row))
        del self.worst[self.most :]
        self._rows += len(code)

    def _offender(
        self, shard: Shard, i: int, code: str, amounts: tuple[int, int], box_codes: Array
    ) -> Offender:
        image = shard.images.slice(i, 1).to_pylist()[0]
        start, stop = np.searchsorted(shard.rows, [i, i + 1]).tolist()
        boxes = shard.boxes.slice(start, stop - start)
        corners = xywh_to_xyxy(np.stack([boxes[key].to_numpy() for key in "xywh"], axis=1))
        sizes_hw = np.tile([image["height"], image["width"]], (len(corners), 1))
        return Offender(
            self._rows + i,
            image["split"],
            image["file_name"],
            code,
            *amounts,
            clip_each(corners, sizes_hw),
            box_codes[start:stop].tolist(),
            boxes["category_id"].to_pylist(),
        )


def _doubts(found: BoxFaults) -> Array:
    """One of `DOUBTS` for each box that has no fault but looks odd, else empty."""
    kinds = [(found.code == OK) & odd for odd in (found.thin, found.doubtful)]
    return np.select(kinds, [np.array(name) for name in DOUBTS], np.array(""))


def leaks(pairs: pd.DataFrame, most: int = MOST_PAIRS) -> list[tuple[str, int, int]]:
    """(code, row, row) of images that two splits share, equal files before look-alikes.

    Args:
        pairs: the table of `Judged.tables`.
    """
    found: list[tuple[str, int, int]] = []
    for code in LEAKS:
        own = pairs[~pairs[code].astype(bool)].iloc[: most - len(found)]
        rows = zip(own["first"].tolist(), own["second"].tolist(), strict=True)
        found += [(code, first, second) for first, second in rows]
    return found
