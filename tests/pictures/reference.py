"""Reads the pictures of a folder with Python rapidocr, the reference for Larder's own pipeline.

    reference.py PICTURES MODELS OUT.json

MODELS holds one ONNX file with `det` and one with `rec` in its name. Orientation is off, all else is
rapidocr's default on the CPU. Writes {"<file>": [{"text", "confidence", "box": [[x, y] * 4]}, ...]}.

Needs the PyPI packages rapidocr and onnxruntime.
"""

import argparse
import json
import pathlib

from rapidocr import RapidOCR


def model(folder: pathlib.Path, part: str) -> str:
    [path] = [p for p in folder.glob("*.onnx") if part in p.stem.split("_")]
    return str(path)


def lines(result) -> list[dict]:
    if result.boxes is None:
        return []
    return [
        {"text": text, "confidence": float(score), "box": [[float(x), float(y)] for x, y in box]}
        for box, text, score in zip(result.boxes, result.txts, result.scores)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads pictures with Python rapidocr.")
    parser.add_argument("pictures", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    engine = RapidOCR(
        params={
            "Global.use_cls": False,
            "Global.log_level": "error",
            "Det.model_path": model(arguments.models, "det"),
            "Rec.model_path": model(arguments.models, "rec"),
        }
    )
    read = {p.name: lines(engine(str(p))) for p in sorted(arguments.pictures.glob("*.png"))}
    arguments.out.write_text(json.dumps(read, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
