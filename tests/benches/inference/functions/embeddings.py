"""The embedding function that a user would write: onnxruntime, tokenizers and numpy, with awslambdaric as the
runtime. It answers in the shape of OpenAI's /v1/embeddings.
"""

import base64
import json
import os

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

folder = os.environ["MODEL"]
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_padding()
tokenizer.enable_truncation(256)
session = InferenceSession(f"{folder}/model.onnx")
names = {port.name for port in session.get_inputs()}


def handler(event, context):
    body = event["body"]
    request = json.loads(base64.b64decode(body) if event["isBase64Encoded"] else body)
    texts = request["input"]
    encoded = tokenizer.encode_batch([texts] if isinstance(texts, str) else texts)
    tensors = {
        "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
    }
    [hidden] = session.run(None, {name: tensors[name] for name in names})
    mask = tensors["attention_mask"][..., None].astype(np.float32)
    pooled = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"object": "list", "data": data}),
    }
