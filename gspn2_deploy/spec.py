"""The op definition, in one place: names, attributes, shapes and dtypes.

The torch custom operators, the ONNX translation, the function bodies, the C ABI and the
documentation are all held against this module by ``tests/test_spec.py``. It imports nothing
but the standard library, so that every layer can read it for free.

Source: GSPN-2 (arXiv 2512.07884), section 3; GSPN (arXiv 2501.12381) for the
Stability-Context normalisation, the skip gate and the merge weights.
"""

from __future__ import annotations

from enum import Enum

ONNX_DOMAIN = "gspn2"
ONNX_DOMAIN_VERSION = 1
TORCH_NAMESPACE = "gspn2"
PLUGIN_VERSION = "1"
PLUGIN_NAMESPACE = ""

PROP2D = "GspnProp2D"
LINE_SCAN = "GspnLineScan"
OP_TYPES = (PROP2D, LINE_SCAN)

# What the TensorRT plugin computes around the propagations: a build puts it in the place of
# standard ops, so no ONNX file of ours holds it.
CHANNEL_NORM = "GspnChannelNorm"
CHANNEL_NORM_INPUTS = ("x", "scale", "shift")
RESPONSE_INPUTS = ("response_scale", "response_shift")  # behind those, or none of them
PROJECTION_INPUTS = ("proxy", "weight", "bias")  # behind all, or none of them
PROJECTION_MAX_CHANNELS = 2  # of proxy
CHANNEL_NORM_ATTRIBUTES = {"epsilon": 1e-5, "response_epsilon": 0.0}
DEPTHWISE = "GspnDepthwise"
DEPTHWISE_INPUTS = ("x", "weight", "bias")  # 2 or 3
DEPTHWISE_ATTRIBUTES = {"activation": "identity", "residual": 0}
DEPTHWISE_KERNELS = (3, 5, 7)
DEPTHWISE_MULTIPLE = 8  # of the channels
DEPTHWISE_NORM = "GspnDepthwiseNorm"  # a convolution and the norm of it, which it gives both
DEPTHWISE_NORM_INPUTS = (*DEPTHWISE_INPUTS, "scale", "shift")
DEPTHWISE_NORM_ATTRIBUTES = {"epsilon": 1e-5, **DEPTHWISE_ATTRIBUTES}
DEPTHWISE_NORM_KERNEL = 3
DEPTHWISE_NORM_MAX_CHANNELS = 1024
FUSED_TYPES = (CHANNEL_NORM, DEPTHWISE, DEPTHWISE_NORM)
PLUGIN_TYPES = (*OP_TYPES, *FUSED_TYPES)

NEIGHBOURS = 3  # the positions p-1, p, p+1 of the previous line, in this order
SIGMOID_SUM_MIN = 1e-7  # the sum of the sigmoids is clamped here: all logits under -104 give 0/0


class Normalize(str, Enum):
    """How raw affinities become the weights of the neighbours that exist.

    At a line's two ends the missing neighbour is left out of the sum.
    """

    SIGMOID = "sigmoid"  # s(w_j) / max(sum_j s(w_j), 1e-7)
    SOFTMAX = "softmax"  # exp(w_j) / sum_j exp(w_j)
    NONE = "none"  # w_j as it is


class Direction(str, Enum):
    """Scan directions, in the order of axis 1 of ``lam``, ``w``, ``u`` and ``d``."""

    LEFT_TO_RIGHT = "left_to_right"
    RIGHT_TO_LEFT = "right_to_left"
    TOP_TO_BOTTOM = "top_to_bottom"
    BOTTOM_TO_TOP = "bottom_to_top"

    @property
    def horizontal(self) -> bool:
        """Whether the scan steps along W (its lines are columns)."""
        return self in (Direction.LEFT_TO_RIGHT, Direction.RIGHT_TO_LEFT)

    @property
    def reverse(self) -> bool:
        """Whether the scan steps from the last line to the first."""
        return self in (Direction.RIGHT_TO_LEFT, Direction.BOTTOM_TO_TOP)

    @property
    def opposite(self) -> Direction:
        """The direction that scans the same lines in the other order."""
        order = list(Direction)
        return order[order.index(self) ^ 1]


DIRECTIONS = tuple(Direction)
NUM_DIRECTIONS = len(DIRECTIONS)

DEFAULT_NORMALIZE = Normalize.SIGMOID.value
DEFAULT_CHUNK = 0  # 0: the whole line is one segment

# Shapes by symbolic dimension. G is 1 (shared by the channels) or C (per channel).
PROP2D_SHAPES = {
    "x": ("N", "C", "H", "W"),
    "lam": ("N", "4", "C", "H", "W"),
    "w": ("N", "4", "3", "G", "H", "W"),
    "u": ("N", "4", "C", "H", "W"),
    "d": ("N", "4", "C", "H", "W"),
    "m": ("4",),
    "y": ("N", "C", "H", "W"),
}
PROP2D_OPTIONAL = ("d", "m")
PROP2D_ATTRIBUTES = {"normalize": DEFAULT_NORMALIZE, "chunk": DEFAULT_CHUNK}

# The TensorRT plugin's other form of GspnProp2D, which no ONNX file of ours holds: inputs are x,
# unless the prediction holds it, a prediction (N, P, H, W) and perhaps m. Three attributes more say
# what lies where in it.
PACKED_OFFSETS = "packed_offsets"  # the first channel of each; of x and d -1: not in it
PACKED_ORDER = ("x", "lam", "u", "d", "w")
PACKED_GROUPS = "groups"  # G
PACKED_CHANNELS = "channels"  # C where the prediction holds x

LINE_SCAN_SHAPES = {
    "x": ("N", "C", "H", "W"),
    "lam": ("N", "C", "H", "W"),
    "w": ("N", "3", "G", "H", "W"),
    "h": ("N", "C", "H", "W"),
}
LINE_SCAN_ATTRIBUTES = {
    "direction": Direction.LEFT_TO_RIGHT.value,
    "normalize": DEFAULT_NORMALIZE,
    "chunk": DEFAULT_CHUNK,
}

HALF_TYPES = ("float16", "bfloat16")
DTYPES = ("float32", *HALF_TYPES)  # in and out; state and sums are float32
# By the precision that an export bakes in; a mixed file has two of them.
PRECISION_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def base_op(op_type: str) -> str:
    """The op that a node or a call stands for: a variant's name begins with the op's and ``_``."""
    return next((name for name in OP_TYPES if op_type.startswith(f"{name}_")), op_type)
