"""Which of a network's boxes are kept: one graph for training, search, evaluation and export.

It is written in ONNX because it ships so; all that score a network before run these same operators.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from frontier.params import Evaluate
from frontier.runtime.session import Arrays, OnnxSession

OPSET = 18
IR_VERSION = 10

Floats = NDArray[np.float32]
Kept = tuple[Floats, Floats, NDArray[np.int64]]  # boxes_xyxy [N, 4], scores [N], labels [N]


class KeepBest:
    """`postprocess_model` in ONNX Runtime, on outputs for stored squares."""

    def __init__(self, rules: Evaluate) -> None:
        # one thread: more cost the few small operators of an image more than they give
        self._session = OnnxSession(postprocess_model(rules).SerializeToString(), threads=1)

    def __call__(self, boxes_xyxy: Floats, scores: Floats, side: int, stored: int) -> Kept:
        """What is kept of one image, best first, in pixels of the stored square.

        Args:
            boxes_xyxy: `[A, 4]` in pixels of the network's input.
            scores: `[A, C]` in 0..1.
            side: of the network's input, pixels.
            stored: side of the square that boxes are wanted in, pixels.
        """
        feeds: Arrays = {
            "network_boxes_xyxy": boxes_xyxy[None],
            "network_scores": scores[None],
            "size": np.full(2, stored, np.float64),
            "scale": np.full(2, side / stored, np.float64),
            "pad": np.zeros(2, np.float64),
        }
        kept = self._session.run(feeds)
        return kept["boxes_xyxy"], kept["scores"], kept["labels"]


def postprocess_model(params: Evaluate, opset: int = OPSET) -> onnx.ModelProto:
    """Raw boxes and scores of one image -> kept boxes in original pixels, scores, labels.

    The best `candidates` anchors take part; time grows with their square. Each vote for a kept box
    is an anchor's score for its class times the overlap above `vote_iou`: it fades to nothing, so a
    small change of a box changes little. The box becomes the mean of those that vote, itself among
    them, and its score is multiplied by V / (V + (1 - `vote_iou`) / 3) for the sum of votes V: a
    sure box that stands alone keeps three quarters of its score, one that many anchors agree on
    nearly all.

    Reference: box voting, Gidaris and Komodakis 2015 (arXiv:1505.01749); fading and agreement are
    ours (docs/ablations.md).
    """
    return parse_graph(
        _KEEP_BEST,
        opset=opset,
        anchors=params.candidates,
        detections=params.max_detections,
        iou=params.iou_threshold,
        vote_iou=params.vote_iou,
        score=params.score_threshold,
    )


def parse_graph(text: str, *, opset: int, **values: Any) -> onnx.ModelProto:
    """A graph from ONNX's text form, `$name` replaced by each of `values`."""
    header = f'<ir_version: {IR_VERSION}, opset_import: ["": {opset}]>\n'
    for name, value in values.items():
        text = text.replace(f"${name}", str(value))
    model = onnx.parser.parse_model(header + text)
    for node in model.graph.node:
        node.name = f"{model.graph.name}/{node.output[0]}"
    return model


_KEEP_BEST = """
keep_best (float[1, A, 4] network_boxes_xyxy, float[1, A, C] network_scores,
           double[2] size, double[2] scale, double[2] pad)
    => (float[N, 4] boxes_xyxy, float[N] scores, int64[N] labels) {
  last_axis = Constant <value = int64[1] {-1}> ()
  best = ReduceMax <keepdims = 0> (network_scores, last_axis)
  anchors = Shape <start = 1, end = 2> (network_scores)
  most_anchors = Constant <value = int64[1] {$anchors}> ()
  few = Min (anchors, most_anchors)
  best_A, rank = TopK (best, few)
  batch = Constant <value = int64[1] {0}> ()
  rank_A = Squeeze (rank, batch)
  boxes_BA = Gather <axis = 1> (network_boxes_xyxy, rank_A)
  scores_BAC = Gather <axis = 1> (network_scores, rank_A)
  scores_BCA = Transpose <perm = [0, 2, 1]> (scores_BAC)
  most = Constant <value = int64[1] {$detections}> ()
  iou = Constant <value = float[1] {$iou}> ()
  score = Constant <value = float[1] {$score}> ()
  kept = NonMaxSuppression (boxes_BA, scores_BCA, most, iou, score)
  kept_scores = GatherND (scores_BCA, kept)
  found = Shape (kept_scores)
  count = Min (found, most)
  chosen_scores, order = TopK (kept_scores, count)
  chosen = Gather <axis = 0> (kept, order)
  class_at = Constant <value = int64 {1}> ()
  chosen_labels = Gather <axis = 1> (chosen, class_at)
  anchor_at = Constant <value = int64 {2}> ()
  anchor = Gather <axis = 1> (chosen, anchor_at)
  boxes_A = Squeeze (boxes_BA, batch)
  boxes_TA = Transpose (boxes_A)
  x1, y1, x2, y2 = Split <axis = 0, num_outputs = 4> (boxes_TA)
  width = Sub (x2, x1)
  height = Sub (y2, y1)
  area = Mul (width, height)
  each = Constant <value = float {1.0}> ()
  one_more = Constant <value = int64[4] {0, 0, 0, 1}> ()
  boxes_A1 = Pad <mode = "constant"> (boxes_A, one_more, each)
  kept_A1 = Gather <axis = 0> (boxes_A1, anchor)
  kept_x1, kept_y1, kept_x2, kept_y2, kept_1 = Split <axis = 1, num_outputs = 5> (kept_A1)
  kept_area_row = Gather <axis = 1> (area, anchor)
  kept_area = Transpose (kept_area_row)
  left = Max (kept_x1, x1)
  top = Max (kept_y1, y1)
  right = Min (kept_x2, x2)
  bottom = Min (kept_y2, y2)
  across = Sub (right, left)
  down = Sub (bottom, top)
  shared_width = Relu (across)
  shared_height = Relu (down)
  shared = Mul (shared_width, shared_height)
  both = Add (kept_area, area)
  union = Sub (both, shared)
  tiny = Constant <value = float {1e-9}> ()
  whole = Max (union, tiny)
  overlap = Div (shared, whole)
  vote_iou = Constant <value = float[1] {$vote_iou}> ()
  above = Sub (overlap, vote_iou)
  nearness = Relu (above)
  scores_CA = Squeeze (scores_BCA, batch)
  class_scores = Gather <axis = 0> (scores_CA, chosen_labels)
  weight = Mul (class_scores, nearness)
  votes = MatMul (weight, boxes_A1)
  own_vote = Mul (kept_A1, tiny)
  all_votes = Add (votes, own_vote)
  four_and_one = Constant <value = int64[2] {4, 1}> ()
  sums, weights = Split <axis = 1> (all_votes, four_and_one)
  voted = Div (sums, weights)
  support = Squeeze (weights, last_axis)
  own_most = Sub (each, vote_iou)
  three = Constant <value = float {3.0}> ()
  doubt = Div (own_most, three)
  with_doubt = Add (support, doubt)
  agreement = Div (support, with_doubt)
  agreed = Mul (chosen_scores, agreement)
  scores, best_first = TopK (agreed, count)
  labels = Gather <axis = 0> (chosen_labels, best_first)
  boxes_square = Gather <axis = 0> (voted, best_first)
  boxes = Cast <to = 11> (boxes_square)
  swap = Constant <value = int64[4] {1, 0, 1, 0}> ()
  pad_xyxy = Gather <axis = 0> (pad, swap)
  shifted = Sub (boxes, pad_xyxy)
  scale_xyxy = Gather <axis = 0> (scale, swap)
  original = Div (shifted, scale_xyxy)
  size_xyxy = Gather <axis = 0> (size, swap)
  zero = Constant <value = double[1] {0.0}> ()
  not_negative = Max (original, zero)
  clipped = Min (not_negative, size_xyxy)
  boxes_xyxy = Cast <to = 1> (clipped)
}
"""
