"""Asks the server at ADDRESS what KServe's REST client can ask, checks the answers, and prints how many."""

import asyncio
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tensors import BINARY_ONLY, DTYPES, SHAPES, same, tensor

url = f"http://{sys.argv[1]}"
checked = 0


def check(condition, *context):
    global checked
    assert condition, context
    checked += 1


def given(name, datatype, values, binary):
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


async def every_type_and_shape(client):
    for datatype in DTYPES:
        # This client does not know BF16.
        if datatype == "BF16":
            continue
        forms = [True] if datatype in BINARY_ONLY else [True, False]
        for shape in SHAPES:
            for binary_in in forms:
                for binary_out in forms:
                    # It makes lists of what comes as bytes, and those it reads have no word for NaN.
                    want = tensor(datatype, shape, False)
                    name = f"echo-{datatype.lower()}"
                    request = InferRequest(
                        name,
                        [given("x", datatype, want, binary_in)],
                        request_id="r-1",
                        parameters={"binary_data_output": binary_out},
                    )
                    answer = await client.infer(url, request, model_name=name)
                    output = answer.outputs[0]
                    context = (datatype, shape, binary_in, binary_out)
                    check(same(output.as_numpy(), want), context, output, want)
                    check((answer.id, answer.model_name) == ("r-1", name), context)


async def requested_outputs(client):
    a = np.array([[1, 2, 3]], np.float32)
    b = np.array([[3, 2, 1]], np.int64)
    request = InferRequest(
        "two",
        [given("a", "FP32", a, True), given("b", "INT64", b, False)],
        request_outputs=[RequestedOutput("half", {"binary_data": True}), RequestedOutput("sum")],
    )
    answer = await client.infer(url, request, model_name="two")
    check([o.name for o in answer.outputs] == ["half", "sum"])
    check(all((o.as_numpy() == 4).all() for o in answer.outputs))
    # Without a number in JSON a float that is none is null, both ways.
    nan = np.array([np.nan, 1], np.float32)
    request = InferRequest("echo-fp32", [given("x", "FP32", nan, False)])
    answer = await client.infer(url, request, model_name="echo-fp32")
    check(np.isnan(answer.outputs[0].as_numpy()).tolist() == [True, False])


async def state_and_errors(client):
    check(await client.is_server_live(url) is True)
    check(await client.is_server_ready(url) is True)
    check(await client.is_model_ready(url, "two") is True)
    check(await client.is_model_ready(url, "none") is False)
    request = InferRequest(
        "two", [given("a", "FP32", np.ones(3, np.float32), True)], parameters={"binary_data_output": True}
    )
    for model, status, parts in [("none", 404, ["none"]), ("two", 400, ['"a"', "[3]", "[-1, 3]"])]:
        try:
            await client.infer(url, request, model_name=model)
        except httpx.HTTPStatusError as error:
            check(error.response.status_code == status and all(p in str(error) for p in parts), error)
        else:
            raise AssertionError(f"{model} was answered")


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        for part in (every_type_and_shape, requested_outputs, state_and_errors):
            await part(client)
    print(checked)


asyncio.run(main())
