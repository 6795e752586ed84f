"""Writes ONNX files for tests, field by field: what is written here is what the bytes say, no library checks it.

    onnx_files.py layers OUT --seed N --width W    multiplications by seeded W×W matrices, W inputs, W outputs
    onnx_files.py answers FILE…                    what onnxruntime answers to a fixed input, as JSON

Field numbers are those of onnx.proto (ONNX 1.17), wire types those of protobuf.
"""

import argparse
import json
import struct
import sys


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while True:
        low, number = number & 127, number >> 7
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def field(number, value):
    """A field: an int as a varint, text and bytes with their length before them."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


FLOAT = 1


def tensor_type(dims):
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(1, field(1, FLOAT) + field(2, shape))


def value_info(name, dims):
    return field(1, name) + field(2, tensor_type(dims))


def node(operator, inputs, outputs, attributes=()):
    names = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
    return names + field(4, operator) + b"".join(field(5, a) for a in attributes)


def tensor(name, dims, raw):
    return b"".join(field(1, d) for d in dims) + field(2, FLOAT) + field(8, name) + field(9, raw)


def external_tensor(name, dims, **entries):
    """A tensor whose bytes are in another file: entries are location, offset, length."""
    pairs = b"".join(field(13, field(1, k) + field(2, str(v))) for k, v in entries.items())
    return b"".join(field(1, d) for d in dims) + field(2, FLOAT) + field(8, name) + pairs + field(14, 1)


def graph(nodes, initializers, inputs, outputs, name="g"):
    return (
        b"".join(field(1, n) for n in nodes)
        + field(2, name)
        + b"".join(field(5, i) for i in initializers)
        + b"".join(field(11, i) for i in inputs)
        + b"".join(field(12, o) for o in outputs)
    )


def model(graph_bytes, opset=17):
    return field(1, 8) + field(2, "larder-tests") + field(7, graph_bytes) + field(8, field(2, opset))


def layers(seed, width, depth=6):
    import numpy

    random = numpy.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for layer in range(depth):
        values = random.standard_normal((width, width), dtype=numpy.float32) / numpy.sqrt(width)
        weights.append(tensor(f"w{layer}", [width, width], values.astype("<f4").tobytes()))
        nodes.append(node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        last = "y" if layer == depth - 1 else f"t{layer}"
        nodes.append(node("Tanh", [f"m{layer}"], [last]))
    return model(graph(nodes, weights, [value_info("x", ["n", width])], [value_info("y", ["n", width])]))


def answers(paths):
    """For each file the shape it was given, and the first values of its first output."""
    import numpy
    import onnxruntime

    for path in paths:
        session = onnxruntime.InferenceSession(path)
        given = session.get_inputs()[0]
        shape = shape_for(given.shape)
        values = (numpy.arange(numpy.prod(shape)) % 251).astype(numpy.float32) / numpy.float32(251) * 2 - 1
        out = session.run(None, {given.name: values.reshape(shape)})[0].ravel()
        step = max(1, len(out) // 64)
        yield {"input": given.name, "shape": shape, "step": step, "values": out[::step].tolist()}


def shape_for(dims):
    """Sizes for what the graph leaves open: pictures of 48 × 96 pixels, or one row."""
    if len(dims) == 4:
        return [1, 3, 64, 96] if dims[2] != 48 else [1, 3, 48, dims[3] if isinstance(dims[3], int) else 96]
    return [d if isinstance(d, int) else 1 for d in dims]


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("layers")
    command.add_argument("out")
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--width", type=int, default=1024)
    command = commands.add_parser("answers")
    command.add_argument("files", nargs="+")
    given = parser.parse_args()
    if given.command == "layers":
        with open(given.out, "wb") as out:
            out.write(layers(given.seed, given.width))
    else:
        json.dump(list(answers(given.files)), sys.stdout)


if __name__ == "__main__":
    main()
