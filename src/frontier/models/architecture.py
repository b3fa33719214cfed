"""The search space and its codes: an architecture is a short string that is its own key.

A code reads, left to right: interface width, input side, head width, four backbone stages, four
neck stages. YOLO-NAS-S at 640 px is

    w1-r640-h0.5-q2x32-q3x64-q5x96-q2x192-q2x64-q2x48-q2x64-q2x64

A stage is `<block><depth>x<hidden>[c]`: block `q` is QARepVGG (a plain 3x3 convolution in the two
down-stages of the neck) and `d` depthwise-separable; hidden is the nominal width, before
`interface_width` scales it; a trailing `c` concatenates every intermediate output.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from frontier.errors import UsageError

BLOCKS = ("q", "d")
HEAD_WIDTHS = (0.5, 0.75, 1.0)
STEM = 48
STAGE_OUTPUTS = (96, 192, 384, 768)
NECK_OUTPUTS = (192, 96, 192, 384)
HEAD_CHANNELS = (128, 256, 512)
STRIDES = (8, 16, 32)
STAGE_NAMES = tuple(
    [f"backbone stage {i}" for i in (1, 2, 3, 4)]
    + ["neck up 1", "neck up 2", "neck down 1", "neck down 2"]
)
# per stage: the depths and nominal hidden widths to choose from; S, M and L of YOLO-NAS are members
DEPTHS = ((1, 2, 3), (1, 2, 3), (1, 3, 5), (1, 2, 3), (1, 2, 4), (2, 3, 4), (1, 2, 4), (2, 3, 4))
HIDDENS = (
    (32, 48, 64, 96),
    (64, 80, 96, 128),
    (96, 128, 192, 256),
    (192, 256, 384, 512),
    (64, 96, 128, 192),
    (48, 64, 96, 128),
    (64, 96, 128, 192),
    (64, 128, 192, 256),
)
_STAGE = re.compile(r"([qd])([1-9])x(\d{1,4})(c?)")


@dataclass(frozen=True, order=True)
class StageChoice:
    """What is elastic in one stage; `hidden` is nominal, before `interface_width`."""

    block: str
    depth: int
    hidden: int
    concat: bool

    def __str__(self) -> str:
        return f"{self.block}{self.depth}x{self.hidden}{'c' if self.concat else ''}"


@dataclass(frozen=True, order=True)
class Architecture:
    """One member of the space.

    Attributes:
        interface_width: multiplier of every fixed interface: 0.25, 0.5 or 1.
        image_side: side of the square input, pixels, a multiple of 32.
        head_width: multiplier of the head's channels.
        stages: four of the backbone, two up and two down of the neck.
    """

    interface_width: float
    image_side: int
    head_width: float
    stages: tuple[StageChoice, ...]

    @property
    def code(self) -> str:
        stages = "-".join(map(str, self.stages))
        return f"w{self.interface_width:g}-r{self.image_side}-h{self.head_width:g}-{stages}"

    @classmethod
    def parse(cls, code: str) -> Self:
        """The architecture of a code.

        Raises:
            UsageError: not a code; shows what one looks like.
        """
        parts = code.split("-")
        stages = [_STAGE.fullmatch(part) for part in parts[3:]]
        head = re.fullmatch(r"w(0\.25|0\.5|1)-r(\d+)-h(0\.5|0\.75|1)", "-".join(parts[:3]))
        if head is None or len(stages) != len(STAGE_NAMES) or None in stages:
            example = yolo_nas("s", 1.0, 640).code
            raise UsageError(f"{code[:200]!r}: not an architecture code; one looks like {example}")
        choices = [
            StageChoice(m[1], int(m[2]), int(m[3]), bool(m[4])) for m in stages if m is not None
        ]
        architecture = cls(float(head[1]), int(head[2]), float(head[3]), tuple(choices))
        if architecture.image_side % 32 or architecture.code != code:
            raise UsageError(f"{code!r}: the input side must be a multiple of 32, in plain digits")
        return architecture

    def hidden(self, stage: int) -> int:
        """Channels inside stage `stage` (0 to 7) once scaled."""
        return scaled(self.stages[stage].hidden, self.interface_width)

    def at(self, image_side: int) -> Self:
        return replace(self, image_side=image_side)


def scaled(channels: float, width: float) -> int:
    """Channels times a width multiplier, up to a multiple of 8 (48 * .25 -> 16): vector units."""
    return max(8, math.ceil(channels * width / 8) * 8)


def _family(hidden: Sequence[int], concat: str, depth: Sequence[int]) -> tuple[StageChoice, ...]:
    return tuple(
        StageChoice("q", d, h, c == "T") for d, h, c in zip(depth, hidden, concat, strict=True)
    )


_YOLO_NAS = {
    "s": (0.5, _family((32, 64, 96, 192, 64, 48, 64, 64), "FFFFFFFF", (2, 3, 5, 2, 2, 2, 2, 2))),
    "m": (
        0.75,
        _family((64, 128, 256, 384, 192, 64, 192, 256), "TTTFFFFF", (2, 3, 5, 2, 2, 3, 2, 3)),
    ),
    "l": (
        1.0,
        _family((96, 128, 256, 512, 128, 128, 128, 256), "TTTTFFFF", (2, 3, 5, 2, 4, 4, 4, 4)),
    ),
}


def yolo_nas(size: str, interface_width: float, image_side: int) -> Architecture:
    """YOLO-NAS S, M or L, scaled; at `interface_width` 1 the published shape exactly."""
    head_width, stages = _YOLO_NAS[size]
    return Architecture(interface_width, image_side, head_width, stages)


@dataclass(frozen=True)
class SearchSpace:
    """Every architecture of one `interface_width` at the given input sides."""

    interface_width: float
    image_sides: tuple[int, ...]

    @property
    def size(self) -> int:
        per_stage = [
            len(BLOCKS) * len(d) * len(h) * 2 for d, h in zip(DEPTHS, HIDDENS, strict=True)
        ]
        return math.prod(per_stage) * len(HEAD_WIDTHS) * len(self.image_sides)

    def _extreme(self, pick: int, *, block: str, concat: bool) -> Architecture:
        stages = tuple(
            StageChoice(block, depths[pick], hiddens[pick], concat)
            for depths, hiddens in zip(DEPTHS, HIDDENS, strict=True)
        )
        side = sorted(self.image_sides)[pick]
        return Architecture(self.interface_width, side, HEAD_WIDTHS[pick], stages)

    @property
    def largest(self) -> Architecture:
        return self._extreme(-1, block="q", concat=True)

    @property
    def smallest(self) -> Architecture:
        return self._extreme(0, block="d", concat=False)

    @property
    def middle_side(self) -> int:
        return sorted(self.image_sides)[len(self.image_sides) // 2]

    def alike(self, stage: int, choice: StageChoice) -> tuple[StageChoice, ...]:
        """Stages that all make the choice, each by its place in its own lists."""
        depth, hidden = DEPTHS[stage].index(choice.depth), HIDDENS[stage].index(choice.hidden)
        return tuple(
            StageChoice(choice.block, depths[depth], hiddens[hidden], choice.concat)
            for depths, hiddens in zip(DEPTHS, HIDDENS, strict=True)
        )

    def seeds(self) -> list[Architecture]:
        """Where a search starts: S, M and L shapes, the smallest and the largest."""
        family = [yolo_nas(size, self.interface_width, self.middle_side) for size in "sml"]
        return [*family, self.smallest, self.largest]

    def member(self, name: str, key: str) -> Architecture:
        """`yolo_nas_s|m|l` at the middle input side, or an architecture code of this space.

        Args:
            key: of params.yaml, for the message.

        Raises:
            UsageError: neither.
        """
        if name.startswith("yolo_nas_") and name[9:] in _YOLO_NAS:
            return yolo_nas(name[9:], self.interface_width, self.middle_side)
        architecture = Architecture.parse(name)
        if not self.has(architecture):
            raise UsageError(
                f"{key}: {name} is not in the search space of interface_width "
                f"{self.interface_width:g} and image_sizes {[*self.image_sides]}; take a member "
                "of it, or yolo_nas_s, yolo_nas_m or yolo_nas_l"
            )
        return architecture

    def baseline(self, name: str) -> Architecture:
        """See `member`."""
        return self.member(name, "search.baseline")

    def has(self, architecture: Architecture) -> bool:
        """Whether every choice of an architecture is one of this space's."""
        return (
            architecture.interface_width == self.interface_width
            and architecture.image_side in self.image_sides
            and all(
                stage.depth in depths and stage.hidden in hiddens
                for stage, depths, hiddens in zip(architecture.stages, DEPTHS, HIDDENS, strict=True)
            )
        )

    def genes(self) -> list[int]:
        """How many choices each gene of the vector form has: 4 per stage, head, input side."""
        per_stage = [[len(BLOCKS), len(d), len(h), 2] for d, h in zip(DEPTHS, HIDDENS, strict=True)]
        return [*itertools.chain(*per_stage), len(HEAD_WIDTHS), len(self.image_sides)]

    def decode(self, vector: Sequence[int]) -> Architecture:
        """The architecture of a vector of choice indices, as `genes` counts them."""
        quads = [vector[i : i + 4] for i in range(0, 4 * len(STAGE_NAMES), 4)]
        stages = tuple(
            StageChoice(BLOCKS[b], depths[d], hiddens[h], bool(c))
            for (b, d, h, c), depths, hiddens in zip(quads, DEPTHS, HIDDENS, strict=True)
        )
        side = sorted(self.image_sides)[vector[-1]]
        return Architecture(self.interface_width, side, HEAD_WIDTHS[vector[-2]], stages)

    def encode(self, architecture: Architecture) -> list[int]:
        """The vector of choice indices; the inverse of `decode`."""
        vector: list[int] = []
        for stage, depths, hiddens in zip(architecture.stages, DEPTHS, HIDDENS, strict=True):
            vector += [
                BLOCKS.index(stage.block),
                depths.index(stage.depth),
                hiddens.index(stage.hidden),
                int(stage.concat),
            ]
        sides = sorted(self.image_sides)
        return [
            *vector,
            HEAD_WIDTHS.index(architecture.head_width),
            sides.index(architecture.image_side),
        ]

    def random(self, generator: np.random.Generator) -> Architecture:
        return self.decode([int(generator.integers(n)) for n in self.genes()])


def edits(start: Architecture, end: Architecture) -> Iterator[tuple[str, Architecture]]:
    """The walk from `start` to `end`, one stage or setting at a time, with words for each step."""
    now = start
    for index, name in enumerate(STAGE_NAMES):
        old, new = now.stages[index], end.stages[index]
        if old != new:
            stages = (*now.stages[:index], new, *now.stages[index + 1 :])
            now = replace(now, stages=stages)
            yield f"{name}: {', '.join(_changes(old, new))}", now
    for field, words in (("head_width", "head width"), ("image_side", "input side")):
        before, after = getattr(now, field), getattr(end, field)
        if before != after:
            now = replace(now, **{field: after})
            yield f"{words} {before:g} -> {after:g}", now


def _changes(old: StageChoice, new: StageChoice) -> Iterator[str]:
    blocks = {"q": "QARepVGG", "d": "depthwise"}
    if old.block != new.block:
        yield f"block {blocks[old.block]} -> {blocks[new.block]}"
    if old.depth != new.depth:
        yield f"depth {old.depth} -> {new.depth}"
    if old.hidden != new.hidden:
        yield f"hidden width {old.hidden} -> {new.hidden}"
    if old.concat != new.concat:
        yield "intermediates concatenated" if new.concat else "intermediates not concatenated"
