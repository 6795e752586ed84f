"""Writes ONNX files for tests, field by field: what is written here is what the bytes say, no library checks it.

    onnx_files.py layers OUT --seed N --width W    multiplications by seeded W×W matrices, W inputs, W outputs
                        --folded                   with the width in two between, by a Reshape
                        --external                 with the matrices in OUT_data
    onnx_files.py loop OUT --width W               as many multiplications by a W×W matrix as its input n says
    onnx_files.py hostile OUT                      a folder for each way to be corrupt or ill-meant, as models
    onnx_files.py answers FILE…                    what onnxruntime answers to a fixed input, as JSON

Field numbers are those of onnx.proto (ONNX 1.17), wire types those of protobuf.
"""

import argparse
import contextlib
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


FLOAT, INT64, BOOL = 1, 7, 9


def tensor_type(dims):
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(1, field(1, FLOAT) + field(2, shape))


def value_info(name, dims):
    return field(1, name) + field(2, tensor_type(dims))


def scalar(name, element):
    return field(1, name) + field(2, field(1, field(1, element) + field(2, b"")))


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


def integers(name, values):
    """A tensor of 64-bit integers."""
    raw = b"".join(struct.pack("<q", value) for value in values)
    return field(1, len(values)) + field(2, INT64) + field(8, name) + field(9, raw)


def layers(seed, width, depth=6, folded=False, external=None):
    """With `external`, a file that is open for writing, that is where the weights go."""
    import os

    import numpy

    random = numpy.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for layer in range(depth):
        values = random.standard_normal((width, width), dtype=numpy.float32) / numpy.sqrt(width)
        name, dims, raw = f"w{layer}", [width, width], values.astype("<f4").tobytes()
        if external:
            place = dict(location=os.path.basename(external.name), offset=external.tell(), length=len(raw))
            weights.append(external_tensor(name, dims, **place))
            external.write(raw)
        else:
            weights.append(tensor(name, dims, raw))
        nodes.append(node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        last = "y" if layer == depth - 1 else f"t{layer}"
        nodes.append(node("Tanh", [f"m{layer}"], [last]))
    if folded:
        nodes[1:2] = [
            node("Reshape", ["m0", "two"], ["f0"]),
            node("Tanh", ["f0"], ["g0"]),
            node("Reshape", ["g0", "one"], ["t0"]),
        ]
        weights += [integers("two", [-1, 2, width // 2]), integers("one", [-1, width])]
    return model(graph(nodes, weights, [value_info("x", ["n", width])], [value_info("y", ["n", width])]))


def looped(width):
    """Takes n, a number of 64 bits, and x; gives x after n layers."""
    import numpy

    values = numpy.eye(width, dtype="<f4")
    body = graph(
        [node("Identity", ["on"], ["on_"]), node("MatMul", ["x_", "w"], ["m"]), node("Tanh", ["m"], ["y_"])],
        [tensor("w", [width, width], values.tobytes())],
        [scalar("i", INT64), scalar("on", BOOL), value_info("x_", [width, width])],
        [scalar("on_", BOOL), value_info("y_", [width, width])],
    )
    attribute = field(1, "body") + field(6, body) + field(20, 5)
    loop = node("Loop", ["n", "", "x"], ["y"], [attribute])
    inputs = [scalar("n", INT64), value_info("x", [width, width])]
    return model(graph([loop], [], inputs, [value_info("y", [width, width])]))


def row(nodes, initializers=(), dims=("n", 4)):
    """A model of one input x and one output y."""
    return model(graph(nodes, initializers, [value_info("x", list(dims))], [value_info("y", list(dims))]))


def added(weights, beside=()):
    """A model that adds its weights w to x."""
    return row([node("Add", ["x", "w"], ["y"]), *beside], [weights])


def nested(depth, inner):
    """A field in a field in a field, each of number 1."""
    for _ in range(depth):
        inner = field(1, inner)
    return inner


def branches(depth):
    """A graph whose If has a graph in it, whose If has a graph in it, and so on."""
    body = graph([node("Identity", ["x"], ["z"])], [], [], [value_info("z", ["n", 4])])
    for _ in range(depth):
        attributes = [field(1, name) + field(6, body) + field(20, 5) for name in ("then_branch", "else_branch")]
        body = graph([node("If", ["c"], ["z"], attributes[:1] + attributes[:1])], [], [], [value_info("z", ["n", 4])])
        if len(body) > 4_000_000:
            break
    return row([node("If", ["c"], ["y"], [field(1, "then_branch") + field(6, body) + field(20, 5)])])


HUGE = 1 << 40


def hostile():
    """Folder and file names, and their content. A model of each must fail, and nothing else must."""
    good = added(tensor("w", [4], struct.pack("<4f", 1, 2, 3, 4)))
    whole = layers(seed=1, width=64)
    four = struct.pack("<4f", 1, 2, 3, 4)
    yield "empty", {"model.onnx": b""}
    yield "text", {"model.onnx": b"this is not a model\n" * 100}
    yield "zeros", {"model.onnx": bytes(100_000)}
    yield "truncated", {"model.onnx": whole[: len(whole) // 2]}
    yield "nothing-but-a-version", {"model.onnx": field(1, 8)}
    yield "length-beyond-the-file", {"model.onnx": varint(7 << 3 | 2) + varint(1 << 60) + good}
    yield "varint-without-end", {"model.onnx": b"\xff" * 1000}
    yield "group-wire-type", {"model.onnx": varint(7 << 3 | 3) * 1000}
    yield "nested-fields", {"model.onnx": field(7, nested(100_000, b"x"))}
    yield "nested-graphs", {"model.onnx": branches(500)}
    yield "unknown-operator", {"model.onnx": row([node("LaunchRockets", ["x"], ["y"])])}
    yield "cycle", {"model.onnx": row([node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])])}
    yield "missing-input", {"model.onnx": row([node("Add", ["x", "nowhere"], ["y"])])}
    yield "huge-weights-that-are-not-there", {"model.onnx": added(tensor("w", [HUGE, HUGE // 16], b""))}
    yield "product-that-wraps-around", {"model.onnx": added(tensor("w", [1 << 33, 1 << 33], four))}
    yield "negative-size", {"model.onnx": added(tensor("w", [-4], four))}
    yield "fewer-values-than-said", {"model.onnx": added(tensor("w", [4096], four))}
    yield "opset-of-the-future", {"model.onnx": model(graph([node("Neg", ["x"], ["y"])], [], [value_info("x", [4])], [value_info("y", [4])]), opset=9999)}
    shape = tensor("s", [2], b"").replace(field(2, FLOAT), field(2, 7)) + field(7, HUGE) * 2
    yield "huge-constant", {"model.onnx": row([node("ConstantOfShape", ["s"], ["w"]), node("Add", ["x", "w"], ["y"])], [shape])}
    for name, location in EXTERNAL.items():
        files = {"model.onnx": added(external_tensor("w", [4], location=location, offset=0, length=16))}
        if name == "data-through-a-link":
            files["link.data"] = Link("../../outside.data")
        yield name, files
    beyond = external_tensor("w", [4], location="w.data", offset=1 << 40, length=16)
    yield "data-beyond-the-end", {"model.onnx": added(beyond), "w.data": bytes(16)}
    long = external_tensor("w", [HUGE], location="w.data", offset=0, length=HUGE * 4)
    yield "data-longer-than-the-file", {"model.onnx": added(long), "w.data": bytes(16)}
    yield "model-that-is-a-link", {"model.onnx": Link("../../outside.onnx")}
    yield "folder-that-is-a-link", {"folder": Link("../.."), "model.onnx": good}


# Where the weights are said to be: all of these are there, and hold sixteen bytes.
EXTERNAL = {
    "data-above": "../../outside.data",
    "data-above-by-detour": "./x/../../../outside.data",
    "data-absolute": "{outside}",
    "data-through-a-link": "link.data",
    "data-of-another-model": "../good/w.data",
}


class Link(str):
    """What a symbolic link leads to."""


def write_hostile(out):
    """Writes OUT/models/NAME/… and what they must not reach beside it. Prints the names."""
    import pathlib

    out = pathlib.Path(out).resolve()
    outside = out / "outside.data"
    good = added(tensor("w", [4], struct.pack("<4f", 1, 2, 3, 4)))
    beside = added(external_tensor("w", [4], location="w.data", offset=0, length=16))
    cases = {name: files for name, files in hostile()}
    absolute = external_tensor("w", [4], location=str(outside), offset=0, length=16)
    cases["data-absolute"] = {"model.onnx": added(absolute)}
    kept = {"good": {"model.onnx": beside, "w.data": struct.pack("<4f", 1, 2, 3, 4)}}
    for name, files in {**cases, **kept}.items():
        folder = out / "models" / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            if isinstance(content, Link):
                (folder / file).symlink_to(content)
            else:
                (folder / file).write_bytes(content)
    outside.write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    (out / "outside.onnx").write_bytes(good)
    print("\n".join(cases))


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
    command.add_argument("--folded", action="store_true")
    command.add_argument("--external", action="store_true")
    command = commands.add_parser("loop")
    command.add_argument("out")
    command.add_argument("--width", type=int, required=True)
    command = commands.add_parser("hostile")
    command.add_argument("out")
    command = commands.add_parser("answers")
    command.add_argument("files", nargs="+")
    given = parser.parse_args()
    if given.command == "layers":
        with open(given.out, "wb") as out, contextlib.ExitStack() as stack:
            external = stack.enter_context(open(given.out + "_data", "wb")) if given.external else None
            out.write(layers(given.seed, given.width, folded=given.folded, external=external))
    elif given.command == "loop":
        with open(given.out, "wb") as out:
            out.write(looped(given.width))
    elif given.command == "hostile":
        write_hostile(given.out)
    else:
        json.dump(list(answers(given.files)), sys.stdout)


if __name__ == "__main__":
    main()
