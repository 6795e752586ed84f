"""Sends PICTURE and texts to the models at ADDRESS as tensors, in every form.

Prints what the ocr model `signs` reads. The tensors of the other models must be what their task routes answer.
"""

import base64
import json
import pathlib
import sys

import numpy as np
import requests
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
picture = pathlib.Path(sys.argv[2]).read_bytes()


def tensor(name, values, binary, shape=None):
    values = np.array([*values, None], np.object_)[:-1].reshape(shape or [len(values)])
    return triton.InferInput(name, list(values.shape), "BYTES").set_data_from_numpy(values, binary)


def words(array):
    return [word if isinstance(word, str) else word.decode() for word in array.ravel()]


def task(model, inputs):
    answer = requests.post(f"http://{sys.argv[1]}/models/{model}", json={"inputs": inputs}, timeout=60)
    answer.raise_for_status()
    return answer.json()


def ask(values, binary, name="image", shape=None, **more):
    answer = client.infer("signs", [tensor(name, values, binary, shape)], **more)
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


def same_labels(model, name, values, binary, expected, **more):
    answer = client.infer(model, [tensor(name, values, binary)], **more)
    labels, scores = answer.as_numpy("label"), answer.as_numpy("score")
    assert labels.shape == scores.shape == (len(expected), len(expected[0])), labels.shape
    assert words(labels) == [entry["label"] for row in expected for entry in row]
    np.testing.assert_allclose(scores.ravel(), [entry["score"] for row in expected for entry in row], atol=1e-6)


texts = ["I love this harbour!", "no", "Grüße 港"]
for binary in (True, False):
    raw = [word.encode() for word in texts]
    same_labels("sentiment", "text", raw, binary, task("sentiment", texts))
    top = [row[:1] for row in task("sentiment", texts)]
    same_labels("sentiment", "text", raw, binary, top, parameters={"top_k": 1})

    answer = client.infer("sentences", [tensor("text", raw, binary)])
    np.testing.assert_allclose(answer.as_numpy("embedding"), task("sentences", texts), atol=1e-6)

    sent = [picture if binary else text]
    labels = task("animals", text.decode())
    same_labels("animals", "image", sent, binary, labels if isinstance(labels[0], list) else [labels])

    answer = client.infer("easy", [tensor("image", sent, binary)], outputs=[triton.InferRequestedOutput(o) for o in ("text", "box", "confidence")])
    lines = requests.post(f"http://{sys.argv[1]}/ocr?model=easy", data=picture, headers={"content-type": "image/png"}, timeout=60).json()["lines"]
    assert lines and words(answer.as_numpy("text")) == [line["text"] for line in lines]
    np.testing.assert_allclose(answer.as_numpy("box"), [line["box"] for line in lines], atol=1e-3)
    np.testing.assert_allclose(answer.as_numpy("confidence"), [line["confidence"] for line in lines], atol=1e-6)

print(json.dumps(answers))
