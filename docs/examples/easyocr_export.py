#!/usr/bin/env python3
"""Writes EasyOCR's models as a folder that Larder serves: ONNX files and their description, easyocr.json.

    easyocr_export.py models/signs --languages en --languages en,ch_sim

Each `--languages` is a list as one would give it to `easyocr.Reader`, and EasyOCR itself tells which
recognition model reads it. All of them share the folder's detector, CRAFT; the first is what a request
gets that asks for no language.

Weights are EasyOCR's own, as its Reader downloads them (`--weights`, by default where it keeps them), and
are checked by the sums in its configuration. With `--seed`, a model without a file gets random weights
from that seed: the architecture is real and the text is noise, which is enough for tests.

Needs the PyPI packages easyocr (1.7) and torch (1.13 is what the tests run).
"""

import argparse
import inspect
import json
import pathlib
import sys
import tempfile
import zlib

import easyocr
import torch
from easyocr import config
from easyocr.craft import CRAFT
from easyocr.model import model as generation1
from easyocr.model import vgg_model as generation2
from easyocr.utils import calculate_md5

FORMAT = 1
OPSET = 16
# What easyocr.Reader makes its two generations of recognition models with.
GENERATIONS = {
    "gen1": (generation1.Model, {"input_channel": 1, "output_channel": 512, "hidden_size": 512}),
    "gen2": (generation2.Model, {"input_channel": 1, "output_channel": 256, "hidden_size": 256}),
}


class Heatmaps(torch.nn.Module):
    """CRAFT without the features that EasyOCR does not use."""

    def __init__(self, craft: CRAFT):
        super().__init__()
        self.craft = craft

    def forward(self, picture):
        return self.craft(picture)[0]


class Logits(torch.nn.Module):
    """A recognition model without the text input that it ignores.

    Its AdaptiveAvgPool2d((None, 1)) is a mean over the height; ONNX has no pooling that leaves one side
    as it is when the width is not known.
    """

    def __init__(self, recogniser: torch.nn.Module):
        super().__init__()
        self.recogniser = recogniser

    def forward(self, crops):
        features = self.recogniser.FeatureExtraction(crops).permute(0, 3, 1, 2).mean(3)
        return self.recogniser.Prediction(self.recogniser.SequenceModeling(features))


def reader(languages: list[str]) -> easyocr.Reader:
    """A Reader that has chosen its recognition model and loaded nothing."""
    with tempfile.TemporaryDirectory() as nowhere:
        return easyocr.Reader(
            languages,
            gpu=False,
            model_storage_directory=nowhere,
            user_network_directory=nowhere,
            download_enabled=False,
            detector=False,
            recognizer=False,
            verbose=False,
        )


def chosen(languages: list[str]) -> str:
    """The name of the recognition model that EasyOCR takes for these languages."""
    chosen = reader(languages)
    for models in config.recognition_models.values():
        for name, model in models.items():
            if (model["model_script"], model["characters"]) == (chosen.model_lang, chosen.character):
                return name
    raise LookupError(f"EasyOCR has no standard model for {','.join(languages)}")


def languages_by_model() -> dict[str, list[str]]:
    """Which languages each model reads, together, in any choice. Asked of EasyOCR, code by code."""
    models: dict[str, list[str]] = {}
    for code in config.all_lang_list:
        try:
            models.setdefault(chosen([code]), []).append(code)
        except FileNotFoundError:  # A code in the list, of which EasyOCR has no characters.
            continue
    for name, codes in models.items():
        if "en" not in codes and chosen([codes[0], "en"]) == name:
            codes.append("en")
    return models


def weights(folder: pathlib.Path, entry: dict) -> dict | None:
    """A model's weights by name, without the prefix of the training's DataParallel."""
    file = folder / entry["filename"]
    if not file.exists():
        return None
    if calculate_md5(file) != entry["md5sum"]:
        sys.exit(f"{file} is not what EasyOCR {easyocr.__version__} expects: its MD5 is another; fetch it again")
    state = torch.load(file, map_location="cpu")
    return {name.removeprefix("module."): values for name, values in state.items()}


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Weights as large as what they add up, so that neither signals nor differences die away."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                # The last layer's logits are as far apart as those of a model that is sure of something.
                size = 8 if name == "Prediction.weight" else 1
                parameter.copy_(noise * size * (2 / parameter[0].numel()) ** 0.5)
            else:
                # Normalisation's weights stay near 1; all else of one dimension are biases.
                parameter.copy_(noise * 0.1 + (parameter.mean() > 0.9))


def load(model: torch.nn.Module, name: str, entry: dict, folder: pathlib.Path, seed: int | None):
    """`model` with EasyOCR's weights, or with random ones if there are none and a seed is given."""
    state = weights(folder, entry)
    if state is not None:
        model.load_state_dict(state)
    elif seed is not None:
        randomise(model, zlib.crc32(name.encode()) ^ seed)
    else:
        sys.exit(
            f"{folder / entry['filename']} is missing: let EasyOCR download it once (easyocr.Reader([...])), "
            f"or unpack {entry['url']} there"
        )
    return model.eval()


def detector(folder: pathlib.Path, seed: int | None) -> CRAFT:
    """EasyOCR's detector."""
    return load(CRAFT(), "craft", config.detection_models["craft"], folder, seed)


def recogniser(name: str, folder: pathlib.Path, seed: int | None) -> torch.nn.Module:
    """The recognition model of this name in easyocr.config."""
    generation, entry = entry_of(name)
    model, parameters = GENERATIONS[generation]
    return load(model(num_class=len(entry["characters"]) + 1, **parameters), name, entry, folder, seed)


def entry_of(name: str) -> tuple[str, dict]:
    """A model's generation and its entry in easyocr.config."""
    [found] = [(g, models[name]) for g, models in config.recognition_models.items() if name in models]
    return found


def write(model: torch.nn.Module, example: torch.Tensor, out: pathlib.Path, names: dict, dynamic: dict) -> None:
    """The model as ONNX, for any size along the dynamic axes."""
    legacy = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(
        model,
        example,
        str(out),
        opset_version=OPSET,
        input_names=[names["input"]],
        output_names=[names["output"]],
        dynamic_axes=dynamic,
        **legacy,
    )


def export(arguments: argparse.Namespace) -> None:
    out, folder, seed = arguments.out, arguments.weights, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    groups = [codes.split(",") for codes in arguments.languages or ["en"]]
    names = list(dict.fromkeys(chosen(codes) for codes in groups))
    write(
        Heatmaps(detector(folder, seed)),
        torch.zeros(1, 3, 64, 96),
        out / "craft_mlt_25k.onnx",
        {"input": "picture", "output": "heatmaps"},
        {"picture": {2: "height", 3: "width"}, "heatmaps": {1: "map_height", 2: "map_width"}},
    )
    described, codes_used = [], set()
    by_model = languages_by_model()
    for name in names:
        write(
            Logits(recogniser(name, folder, seed)),
            torch.zeros(2, 1, config.imgH, 128),
            out / f"{name}.onnx",
            {"input": "crops", "output": "logits"},
            {"crops": {0: "batch", 3: "width"}, "logits": {0: "batch", 1: "steps"}},
        )
        entry = entry_of(name)[1]
        codes_used.update(by_model[name])
        described.append(
            {
                "name": name,
                "file": f"{name}.onnx",
                "languages": by_model[name],
                "characters": entry["characters"],
                "symbols": entry["symbols"],
                "height": config.imgH,
                "right_to_left": entry["model_script"] == "arabic",
            }
        )
    # In EasyOCR's order of choice: what reads the least first, so that English alone gets its own model.
    described.sort(key=lambda model: len(model["languages"]))
    characters = {code: "".join(sorted(set(reader([code]).getChar(f"{code}_char.txt")))) for code in sorted(codes_used)}
    description = {
        "format": FORMAT,
        "easyocr": easyocr.__version__,
        "detector": {"file": "craft_mlt_25k.onnx", "canvas_size": arguments.canvas_size},
        "default_languages": groups[0],
        "recognisers": described,
        "language_characters": characters,
    }
    text = json.dumps(description, ensure_ascii=False, indent=1)
    (out / "easyocr.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes EasyOCR's models as a folder that Larder serves.")
    parser.add_argument("out", type=pathlib.Path, help="the folder, made if it is not there")
    parser.add_argument(
        "--languages",
        action="append",
        metavar="CODES",
        help="EasyOCR's codes with commas between them, such as en,ch_sim; may be given again; en if not given",
    )
    parser.add_argument(
        "--weights",
        type=pathlib.Path,
        default=pathlib.Path(config.MODULE_PATH) / "model",
        help="where EasyOCR keeps its .pth files (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="random weights from this seed for models without a file")
    parser.add_argument(
        "--canvas-size",
        type=int,
        default=2560,
        metavar="PIXELS",
        help="pictures with a longer side are scaled down to it to be searched for text (default: %(default)s)",
    )
    export(parser.parse_args())


if __name__ == "__main__":
    main()
