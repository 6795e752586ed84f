"""What the reference tools make of texts and pictures with a model: numbers to compare ours with.

    reference.py texts MODEL CASES.json OUT.json      CASES: [{"text", "pair"?, "most"?: tokens}, …]
    reference.py pictures MODEL PICTURES OUT.json     every PNG and JPEG of the folder PICTURES
    reference.py draw PICTURES --count N --seed N     makes such a folder

Texts: the tokenizers library and ONNX Runtime, one text at a time. Writes for each text its tokens and the
graph's first output. Pictures: Pillow and NumPy, step by step as the image processors of transformers work,
and ONNX Runtime. Writes for each picture the graph's first output.

Needs the PyPI packages tokenizers, onnxruntime, pillow and numpy.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer


def read(path: pathlib.Path):
    return json.loads(path.read_text(encoding="utf-8"))


def graph(model: pathlib.Path) -> onnxruntime.InferenceSession:
    [path] = model.glob("*.onnx")
    return onnxruntime.InferenceSession(str(path))


def texts(arguments) -> None:
    session = graph(arguments.model)
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_padding()
    answers = []
    for case in read(arguments.cases):
        if "most" in case:
            tokenizer.enable_truncation(case["most"])
        else:
            tokenizer.no_truncation()
        encoded = tokenizer.encode(case["text"], case.get("pair"))
        values = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
        wanted = [i.name for i in session.get_inputs()]
        [output, *_] = session.run(None, {name: np.array([values[name]], dtype=np.int64) for name in wanted})
        answers.append({"tokens": len(encoded.ids), "output": output[0].astype(float).tolist()})
    arguments.out.write_text(json.dumps(answers), encoding="utf-8")


def shortest(picture: Image.Image, side: int) -> tuple[int, int]:
    width, height = picture.size
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def centre(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    padded = np.zeros((max(height, pixels.shape[0]), max(width, pixels.shape[1]), 3), pixels.dtype)
    top, left = (math.ceil((p - s) / 2) for p, s in zip(padded.shape[:2], pixels.shape[:2]))
    padded[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    top, left = ((p - s) // 2 for p, s in zip(padded.shape[:2], (height, width)))
    return padded[top : top + height, left : left + width]


def processed(picture: Image.Image, config: dict) -> np.ndarray:
    """Height × width × colours, in the order and scale that the file asks for."""
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    size, crop = config.get("size"), config.get("crop_size")
    if config.get("do_resize", True):
        if config.get("crop_pct") and size["shortest_edge"] < 384:
            edge = size["shortest_edge"]
            target, crop = shortest(picture, int(edge / config["crop_pct"])), {"height": edge, "width": edge}
        elif config.get("crop_pct"):
            target = (size["shortest_edge"],) * 2
        elif "shortest_edge" in size:
            target = shortest(picture, size["shortest_edge"])
        else:
            target = size["width"], size["height"]
        picture = picture.resize(target, config["resample"])
    pixels = np.asarray(picture)
    if crop and (config.get("do_center_crop") or config.get("crop_pct")):
        pixels = centre(pixels, crop["height"], crop["width"])
    values = pixels.astype(np.float32)
    if config.get("do_rescale", True):
        values = (pixels.astype(np.float64) * config.get("rescale_factor", 1 / 255)).astype(np.float32)
    if config.get("do_flip_channel_order"):
        values = values[..., ::-1]
    if config.get("do_normalize", True):
        mean = np.array(config["image_mean"], np.float32)
        values = (values - mean) / np.array(config.get("image_std", [1, 1, 1]), np.float32)
    return values


def pictures(arguments) -> None:
    session = graph(arguments.model)
    config = read(arguments.model / "preprocessor_config.json")
    [given] = session.get_inputs()
    answers = {}
    for path in sorted(p for p in arguments.pictures.iterdir() if p.suffix in (".png", ".jpg")):
        values = processed(Image.open(path), config)
        if given.shape[1] == 3:
            values = values.transpose(2, 0, 1)
        [output, *_] = session.run(None, {given.name: np.ascontiguousarray(values[None])})
        answers[path.name] = output[0].astype(float).tolist()
    arguments.out.write_text(json.dumps(answers), encoding="utf-8")


def draw(arguments) -> None:
    """Soft and sharp content, in sizes from one pixel to some hundreds, in every kind of PNG and JPEG."""
    arguments.pictures.mkdir(parents=True)
    rng = np.random.default_rng(arguments.seed)
    sizes = [(1, 1), (1, 40), (57, 2), (48, 48), (56, 56), (640, 480)]
    for n in range(arguments.count):
        width, height = sizes[n] if n < len(sizes) else rng.integers(3, 500, 2).tolist()
        noise = rng.integers(0, 256, (height, width, 3))
        y, x = np.mgrid[0:height, 0:width] / max(width, height)
        waves = [127 + 127 * np.sin(rng.uniform(3, 40) * x + rng.uniform(3, 40) * y) for _ in range(3)]
        share = rng.choice([0, 0.2, 1])
        picture = Image.fromarray((noise * share + np.stack(waves, -1) * (1 - share)).astype(np.uint8))
        kind = ["rgb", "grey", "alpha", "palette", "grey_alpha", "exif"][n % 6]
        name = arguments.pictures / f"{n:03}-{kind}-{width}x{height}.png"
        if kind == "grey":
            picture.convert("L").save(name)
        elif kind == "alpha":
            picture.putalpha(Image.fromarray(noise[..., 0].astype(np.uint8)))
            picture.save(name)
        elif kind == "palette":
            picture.quantize(64).save(name)
        elif kind == "grey_alpha":
            picture = picture.convert("LA")
            picture.putalpha(Image.fromarray(noise[..., 0].astype(np.uint8)))
            picture.save(name)
        elif kind == "exif":
            exif = Image.Exif()
            exif[0x0112] = int(rng.integers(1, 9))
            # PNG keeps the pixels, so that only the orientation is tested; the JPEG is for the decoder.
            picture.save(name, exif=exif)
            picture.save(name.with_suffix(".jpg"), quality=95, subsampling=0, exif=exif)
        else:
            picture.save(name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Reference answers of models.")
    jobs = parser.add_subparsers(required=True)
    for job, names in [(texts, ["model", "cases", "out"]), (pictures, ["model", "pictures", "out"]), (draw, ["pictures"])]:
        sub = jobs.add_parser(job.__name__)
        sub.set_defaults(job=job)
        for name in names:
            sub.add_argument(name, type=pathlib.Path)
        if job is draw:
            sub.add_argument("--count", type=int, required=True)
            sub.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    arguments.job(arguments)


if __name__ == "__main__":
    main()
