"""The OCR function that a user would write: rapidocr behind a function URL, with awslambdaric as the runtime.

Its settings are rapidocr's defaults, but for the orientation model, which neither side runs. TUNED=1 gives
its sessions the ONNX Runtime settings that larder-inference has.
"""

import base64
import json
import os

from rapidocr import RapidOCR

if os.environ.get("TUNED"):
    from onnxruntime import SessionOptions
    from rapidocr.inference_engine.onnxruntime import main as sessions

    def tuned(_):
        options = SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = int(os.environ["THREADS"])
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        return options

    sessions.OrtInferSession._init_sess_opts = staticmethod(tuned)

engine = RapidOCR(
    params={
        "Global.use_cls": False,
        "Global.log_level": "error",
        "Det.model_path": os.environ["DETECTOR"],
        "Rec.model_path": os.environ["RECOGNISER"],
    }
)


def handler(event, context):
    result = engine(base64.b64decode(event["body"]))
    lines = []
    if result.boxes is not None:
        lines = [
            {"text": text, "confidence": float(score), "box": box.tolist()}
            for box, text, score in zip(result.boxes, result.txts, result.scores)
        ]
    body = {"predicted_label": " ".join(line["text"] for line in lines), "lines": lines}
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body, ensure_ascii=False),
    }
