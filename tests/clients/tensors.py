"""Tensors of every datatype and shape that clients are tested with."""

import ml_dtypes
import numpy as np

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}

# A scalar, one, nothing, nothing of something, and more.
SHAPES = [(), (1,), (0,), (2, 0, 3), (7,), (2, 3), (2, 1, 3, 2)]

# Neither Triton nor KServe has a form in JSON for these.
BINARY_ONLY = ("FP16", "BF16")

TEXTS = ["", "a", "Hafenstraße", "海港路", 'say "no"\n', "\N{SLICE OF PIZZA}", "x" * 1000]


def tensor(datatype, shape, binary):
    """Both ends of the datatype's range first, then values from a fixed seed."""
    count = int(np.prod(shape))
    seed = np.random.default_rng(count)
    if datatype == "BYTES":
        values = np.array([TEXTS[i % len(TEXTS)].encode() for i in range(count)] + [None], np.object_)
        return values[:count].reshape(shape)
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        return seed.integers(0, 2, count).astype(dtype).reshape(shape)
    if datatype in ("FP16", "BF16", "FP32", "FP64"):
        limits = ml_dtypes.finfo(dtype) if datatype == "BF16" else np.finfo(dtype)
        ends = [limits.max, limits.min, limits.smallest_subnormal, -0.0]
        # JSON has no word for these.
        ends += [np.inf, np.nan] if binary else []
        values = np.concatenate([np.array(ends, dtype), seed.normal(size=count).astype(dtype)])
    else:
        limits = np.iinfo(dtype)
        ends = np.array([limits.max, limits.min], dtype)
        values = np.concatenate([ends, seed.integers(limits.min, limits.max, count, dtype)])
    return values[:count].astype(dtype).reshape(shape)


def same(have, want):
    """Equal to the last bit, or to the last letter where JSON made texts of bytes."""
    if have.shape != want.shape:
        return False
    if want.dtype == np.object_:
        text = lambda value: value if isinstance(value, bytes) else value.encode()
        return [text(v) for v in have.flatten()] == [text(v) for v in want.flatten()]
    return have.dtype == want.dtype and have.tobytes() == want.tobytes()
