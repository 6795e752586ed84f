"""Sends PICTURE to the ocr model `signs` at ADDRESS as a tensor in every form, and prints the answers' text."""

import base64
import json
import pathlib
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
picture = pathlib.Path(sys.argv[2]).read_bytes()


def ask(values, binary, name="image", shape=None, **more):
    values = np.array([*values, None], np.object_)[:-1].reshape(shape or [len(values)])
    tensor = triton.InferInput(name, list(values.shape), "BYTES").set_data_from_numpy(values, binary)
    answer = client.infer("signs", [tensor], **more)
    texts = [text if isinstance(text, str) else text.decode() for text in answer.as_numpy("text")]
    lines = answer.as_numpy("lines").tolist()
    assert answer.as_numpy("box").shape == (sum(lines), 4, 2)
    assert answer.as_numpy("confidence").shape == (sum(lines),)
    return {"text": texts, "lines": lines}


text = base64.b64encode(picture)
answers = [
    ask([picture], True),
    ask([text], False),
    ask([picture, picture], True, shape=[2, 1]),
    # Whatever the name, as KServe's Hugging Face server has it.
    ask([picture], True, name="input-0"),
    ask([picture], True, parameters={"least_confidence_percent": 100}),
]
print(json.dumps(answers))
