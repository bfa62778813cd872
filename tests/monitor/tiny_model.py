"""Model files of a few numbers, whose answers are known without running them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from monitor import beat
from monitor.classify import INPUT, METADATA_KEY, OUTPUT, RR_INPUT, ModelInfo

AAMI = ["N", "S", "V", "F", "Q"]
EARLY = 0.8
"""A beat that comes within this share of the median RR interval is a V to the tiny model with context."""


def tiny_info(**fields: Any) -> ModelInfo:
    """Description of a model with context and five classes, but for the given fields."""
    usual: dict[str, Any] = {
        "name": "tiny", "network": "matmul", "contract": beat.CONTRACT, "rate_hz": beat.RATE_HZ, "length": beat.LENGTH,
        "scaling": "minmax", "classes": AAMI, "threshold": 0.5, "trained_on": {}, "figures": {},
        "context": list(beat.RR_CONTEXT),
    }  # fmt: skip
    return ModelInfo(**usual | fields)


def write_tiny(path: Path, info: ModelInfo | None = None, inputs: Sequence[str] | None = None) -> Path:
    """Write a model file: softmax of a linear map, class 0 against class 2 (1 where there are two), others unlikely.

    With context the beat is normal unless it came early; without, unless the second half of its window is well filled.

    Parameters
    ----------
    info
        The description in the file.
    inputs
        Names of the inputs; those that the description declares if not given.
    """
    info = tiny_info() if info is None else info
    if inputs is None:
        inputs = [INPUT, RR_INPUT] if info.context else [INPUT]
    widths = {INPUT: beat.LENGTH, RR_INPUT: len(beat.RR_CONTEXT)}
    weights = {name: np.zeros((widths.get(name, 1), len(info.classes)), np.float32) for name in inputs}
    bias = np.full(len(info.classes), -20, np.float32)
    abnormal = min(2, len(info.classes) - 1)
    bias[0] = bias[abnormal] = 0
    if RR_INPUT in weights:
        weights[RR_INPUT][:, abnormal] = [-100, 0, 100 * EARLY]
    elif INPUT in weights:
        weights[INPUT][beat.LENGTH // 2 :, abnormal] = 1
        bias[abnormal] = -1
    nodes = [helper.make_node("MatMul", [name, f"{name} weights"], [f"{name} part"]) for name in inputs]
    nodes.append(helper.make_node("Sum", [*(f"{name} part" for name in inputs), "bias"], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", widths.get(name, 1)]) for name in inputs],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", len(info.classes)])],
        [numpy_helper.from_array(array, f"{name} weights") for name, array in weights.items()]
        + [numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: msgspec.json.encode(info).decode()})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path
