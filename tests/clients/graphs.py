"""Writes the small ONNX graphs that clients are tested with into FOLDER, one model to a folder.

echo-<datatype>  gives back its input, of any shape
two              takes a, FP32 [-1, 3], and b, INT64 [-1, 3]; gives their sum and their difference as FP32,
                 and the sum as FP16
"""

import pathlib
import sys

import onnx
from onnx import TensorProto, helper

TYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}


def write(folder, name, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    place = folder / name
    place.mkdir(parents=True)
    onnx.save(model, place / "model.onnx")


def main(folder):
    for name, type in TYPES.items():
        write(
            folder,
            f"echo-{name}",
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_tensor_value_info("x", type, None)],
            [helper.make_tensor_value_info("y", type, None)],
        )
    rows = ["rows", 3]
    write(
        folder,
        "two",
        [
            helper.make_node("Cast", ["b"], ["float_b"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["a", "float_b"], ["sum"]),
            helper.make_node("Sub", ["a", "float_b"], ["difference"]),
            helper.make_node("Cast", ["sum"], ["half"], to=TensorProto.FLOAT16),
        ],
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, rows),
            helper.make_tensor_value_info("b", TensorProto.INT64, rows),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, rows),
            helper.make_tensor_value_info("difference", TensorProto.FLOAT, rows),
            helper.make_tensor_value_info("half", TensorProto.FLOAT16, rows),
        ],
    )


main(pathlib.Path(sys.argv[1]))
