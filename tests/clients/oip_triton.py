"""Asks the server at ADDRESS what tritonclient can ask, checks the answers, and prints how many it checked."""

import sys

import numpy as np
import tritonclient.http as triton
from tensors import BINARY_ONLY, DTYPES, SHAPES, same, tensor
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
checked = 0


def check(condition, *context):
    global checked
    assert condition, context
    checked += 1


def refused(status, parts, ask):
    try:
        ask()
    except InferenceServerException as error:
        check(error.status() == status and all(part in error.message() for part in parts), parts, str(error))
    else:
        raise AssertionError(f"nothing refused {parts}")


def given(name, datatype, values, binary):
    return triton.InferInput(name, list(values.shape), datatype).set_data_from_numpy(values, binary)


def echo(datatype, values, binary_in, binary_out):
    inputs = [given("x", datatype, values, binary_in)]
    outputs = None if binary_out is None else [triton.InferRequestedOutput("y", binary_data=binary_out)]
    return client.infer(f"echo-{datatype.lower()}", inputs, outputs=outputs, request_id="r-1")


def every_type_and_shape():
    for datatype in DTYPES:
        forms = [True] if datatype in BINARY_ONLY else [True, False]
        for shape in SHAPES:
            for binary_in in forms:
                # None: no outputs asked for, which this client takes to mean all of them in binary form.
                for binary_out in [*forms, None]:
                    want = tensor(datatype, shape, binary_in and binary_out in (True, None))
                    answer = echo(datatype, want, binary_in, binary_out)
                    context = (datatype, shape, binary_in, binary_out)
                    check(same(answer.as_numpy("y"), want), context, answer.as_numpy("y"), want)
                    output = answer.get_output("y")
                    check(output["datatype"] == datatype and output["shape"] == list(shape), context, output)
                    check(("data" in output) == (binary_out is False), context, output)
        check(answer.get_response()["id"] == "r-1")
        check(answer.get_response()["model_name"] == f"echo-{datatype.lower()}")


def several_tensors():
    a = np.array([[1.5, 2, 3], [4, 5, 6]], np.float32)
    b = np.array([[1, 1, 1], [2, 2, -2]], np.int64)
    for binary_a, binary_b in [(True, False), (False, True), (True, True)]:
        # Not in the graph's order.
        inputs = [given("b", "INT64", b, binary_b), given("a", "FP32", a, binary_a)]
        outputs = [
            triton.InferRequestedOutput("half", binary_data=True),
            triton.InferRequestedOutput("sum", binary_data=False),
        ]
        answer = client.infer("two", inputs, outputs=outputs, priority=3, timeout=1000, parameters={"my": 1})
        check([o["name"] for o in answer.get_response()["outputs"]] == ["half", "sum"])
        check(same(answer.as_numpy("sum"), (a + b).astype(np.float32)))
        check(same(answer.as_numpy("half"), (a + b).astype(np.float16)))
    answer = client.infer("two", inputs)
    check(same(answer.as_numpy("difference"), (a - b).astype(np.float32)))
    for binary in (True, False):
        outputs = [triton.InferRequestedOutput("sum", binary_data=binary, class_count=2)]
        classes = client.infer("two", inputs, outputs=outputs).as_numpy("sum")
        text = [[c if isinstance(c, str) else c.decode() for c in row] for row in classes]
        check(text == [["4:2", "3:1"], ["7:1", "6:0"]], text)


def errors():
    one = np.ones((1, 3), np.float32)
    two = lambda a, outputs=None: client.infer(
        "two", [given("a", "FP32", a, True), given("b", "INT64", np.ones((1, 3), np.int64), True)], outputs=outputs
    )
    refused("404", ["none", "echo-fp32"], lambda: client.infer("none", [given("x", "FP32", one, True)]))
    refused("404", ["two", "99"], lambda: client.infer("two", [given("a", "FP32", one, True)], model_version="99"))
    refused("400", ['"a"', "FP64", "FP32"], lambda: client.infer("two", [given("a", "FP64", one.astype(np.float64), True)]))
    refused("400", ['"a"', "[3]", "[-1, 3]"], lambda: two(one[0]))
    refused("400", ['"b"', "missing"], lambda: client.infer("two", [given("a", "FP32", one, True)]))
    # Each fits by itself; only the graph knows that they must have the same number of rows.
    uneven = [given("a", "FP32", np.ones((2, 3), np.float32), True), given("b", "INT64", np.ones((3, 3), np.int64), True)]
    refused("400", ["two", "a [2, 3]", "b [3, 3]"], lambda: client.infer("two", uneven))
    refused("400", ['"z"', "sum"], lambda: two(one, [triton.InferRequestedOutput("z")]))
    refused("400", ['"half"', "FP16", "binary_data"], lambda: two(one, [triton.InferRequestedOutput("half", binary_data=False)]))
    half = one.astype(np.float16)
    refused("400", ['"x"', "FP16", "binary"], lambda: echo("FP16", half, False, True))
    for value, problem in [(b"\xff", "UTF-8"), (b"a\0b", "zero byte")]:
        texts = np.array([b"fine", value], np.object_)
        refused("400", ['"x"', "value 1", problem], lambda: echo("BYTES", texts, True, True))
    refused("415", ["gzip"], lambda: client.infer("two", [given("a", "FP32", one, True)], request_compression_algorithm="gzip"))
    # By a client of its own: the server hangs up on a body that it does not want.
    large = given("x", "UINT8", np.zeros(7 << 20, np.uint8), True)
    other = triton.InferenceServerClient(sys.argv[1])
    refused("413", ["6291456"], lambda: other.infer("echo-uint8", [large]))


def metadata():
    check(client.is_server_live() and client.is_server_ready())
    about = client.get_server_metadata()
    check({"binary_tensor_data", "classification", "model_repository"} <= set(about["extensions"]), about)
    model = client.get_model_metadata("two")
    check(model["platform"] == "onnxruntime_onnx" and model["name"] == "two", model)
    check(model["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 3]}, model)
    check([o["name"] for o in model["outputs"]] == ["sum", "difference", "half"], model)
    [version] = model["versions"]
    check(client.get_model_metadata("two", version) == model)
    check(client.is_model_ready("two") and client.is_model_ready("two", version))
    check(not client.is_model_ready("none") and not client.is_model_ready("two", "99"))
    refused("404", ["none"], lambda: client.get_model_metadata("none"))


def repository():
    state = lambda name: [e for e in client.get_model_repository_index() if e["name"] == name]
    index = client.get_model_repository_index()
    check(len(index) == 15 and all(e["state"] == "READY" and e["reason"] == "" for e in index), index)
    [version] = client.get_model_metadata("two")["versions"]
    check(state("two") == [{"name": "two", "version": version, "state": "READY", "reason": ""}])
    client.unload_model("two")
    [entry] = state("two")
    check(entry["state"] == "UNAVAILABLE" and "unloaded" in entry["reason"], entry)
    check(not client.is_model_ready("two"))
    client.load_model("two")
    check(state("two")[0]["state"] == "READY" and client.is_model_ready("two"))
    # What is unloaded still answers: it is loaded again.
    client.unload_model("echo-int8")
    want = tensor("INT8", (3,), True)
    check(same(echo("INT8", want, True, True).as_numpy("y"), want))
    check(client.is_model_ready("echo-int8"))
    refused("404", ["none"], lambda: client.load_model("none"))
    refused("404", ["none"], lambda: client.unload_model("none"))
    refused("400", ["config", "manifest"], lambda: client.load_model("two", config="{}"))


for part in (every_type_and_shape, several_tensors, errors, metadata, repository):
    part()
print(checked)
