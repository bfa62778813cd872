"""Model files as other people's software writes them: a linear map, and a head of every sort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from monitor.beat import LENGTH

WEIGHTS = (np.random.default_rng(0).normal(0, 0.3, (LENGTH, 2))).astype(np.float32)
FLOAT = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}
HEADS: dict[str, list[tuple[str, list[str], str, dict[str, Any]]]] = {
    "probabilities": [("Softmax", ["z"], "y", {"axis": 1})],
    "logits": [("Identity", ["z"], "y", {})],
    "log-probabilities": [("LogSoftmax", ["z"], "y", {"axis": 1})],
    "percent": [("Softmax", ["z"], "p", {"axis": 1}), ("Mul", ["p", "hundred"], "y", {})],
    "one sigmoid": [("Sub", ["z1", "z0"], "d", {}), ("Sigmoid", ["d"], "y", {})],
    "one logit": [("Sub", ["z1", "z0"], "y", {})],
    "one of no axis": [("Sub", ["z1", "z0"], "d", {}), ("Sigmoid", ["d"], "q", {}), ("Squeeze", ["q", "one"], "y", {})],
    "softmax over the batch": [("Softmax", ["z"], "y", {"axis": 0})],
    "independent sigmoids": [("Sigmoid", ["z"], "y", {})],
    "normalised over the batch": [
        ("ReduceMean", ["z"], "m", {"axes": [0], "keepdims": 1}), ("Sub", ["z", "m"], "c", {}),
        ("Softmax", ["c"], "y", {"axis": 1}),
    ],
    "not a number": [("Mul", ["z", "nan"], "n", {}), ("Softmax", ["n"], "y", {"axis": 1})],
    "infinite": [("Div", ["z", "zero"], "y", {})],
    "dropout": [("RandomNormalLike", ["z"], "r", {}), ("Add", ["z", "r"], "s", {}),
                ("Softmax", ["s"], "y", {"axis": 1})],
}  # fmt: skip
"""Nodes from the two columns z (z0 and z1) to the output y."""


def expected(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities that every sort of file stands for: (n, 187) -> (n, 2)."""
    powers = np.exp(windows.astype(np.float64) @ WEIGHTS)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def write_foreign(
    path: Path,
    head: str = "probabilities",
    *,
    shape: Sequence[int | str | None] = ("n", LENGTH),
    dtype: str = "float",
    maps: Sequence[int | str] | None = None,
    labels: Sequence[str] | str | None = None,
    more: Sequence[str] = (),
    external: bool = False,
    producer: str = "pytorch",
) -> Path:
    """Write a model file without metadata.

    Parameters
    ----------
    head
        One of `HEADS`.
    shape, dtype
        Of the input, "keras_tensor:0".
    maps
        Keys of a map for each beat, as ZipMap makes them of probabilities; None: an array.
    labels
        Names of the classes in the order of the columns, told as a second output; "int64": numbers instead.
    more
        Names of further values to give out.
    external
        Whether the weights lie in a second file.
    """
    of = FLOAT[dtype]
    numpy_type = helper.tensor_dtype_to_np_dtype(of)
    nodes = [
        helper.make_node("Reshape", ["keras_tensor:0", "rows"], ["x"]),
        helper.make_node("MatMul", ["x", "W"], ["z"]),
        helper.make_node("MatMul", ["z", "first"], ["z0"]),
        helper.make_node("MatMul", ["z", "second"], ["z1"]),
        *(helper.make_node(kind, inputs, [to], **about) for kind, inputs, to, about in HEADS[head]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "rows": np.array([-1, LENGTH], np.int64), "one": np.array([1], np.int64), "W": WEIGHTS.astype(numpy_type),
        "first": np.array([[1], [0]], numpy_type), "second": np.array([[0], [1]], numpy_type),
        "hundred": np.array(100, numpy_type), "nan": np.array(np.nan, numpy_type), "zero": np.array(0, numpy_type),
    }  # fmt: skip
    outputs = [helper.make_tensor_value_info("y", of, None)]
    if maps is not None:
        texts = isinstance(maps[0], str)
        keys: dict[str, Any] = {"classlabels_strings" if texts else "classlabels_int64s": list(maps)}
        nodes.append(helper.make_node("ZipMap", ["y"], ["output_probability"], domain="ai.onnx.ml", **keys))
        outputs = [_map_output("output_probability", TensorProto.STRING if texts else TensorProto.INT64)]
    if labels is not None:
        nodes.append(helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0))
        name, kind = "label", TensorProto.INT64
        if labels != "int64":
            name, kind = "output_label", TensorProto.STRING
            nodes.append(helper.make_node("Gather", ["names", "label"], ["output_label"]))
            constants["names"] = np.array(list(labels), object)
        outputs.insert(0, helper.make_tensor_value_info(name, kind, None))
    outputs += [helper.make_tensor_value_info(name, of, None) for name in more]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("keras_tensor:0", of, list(shape))], outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=producer)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=500)
    else:
        onnx.save(model, path)
    return path


def _map_output(name: str, key: int) -> onnx.ValueInfoProto:
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    return helper.make_value_info(name, helper.make_sequence_type_proto(helper.make_map_type_proto(key, value)))
