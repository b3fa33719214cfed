"""The network that the benchmarks train unless told otherwise: at most 1 GMAC at 320 px."""

from argparse import ArgumentParser, Namespace

from frontier.models.architecture import Architecture, yolo_nas

# YOLO-NAS-S at interface width .5 with a bottleneck less where maps are large: time goes there
DEFAULT = "w0.5-r320-h0.5-q1x32-q2x64-q3x96-q2x192-q1x64-q2x48-q2x64-q2x64"


def add_network(parser: ArgumentParser) -> None:
    parser.add_argument("--network", default=DEFAULT, help="an architecture code, or like s0.25")
    parser.add_argument("--side", type=int, default=320, help="of a network like s0.25, pixels")


def chosen_network(given: Namespace) -> Architecture:
    """`s0.25` is YOLO-NAS-S at interface width .25; anything longer is an architecture code."""
    name = given.network
    if "-" in name:
        return Architecture.parse(name)
    return yolo_nas(name[0], float(name[1:]), given.side)
