"""huggingface_hub's client against /models/{model}; prints the number of checks. The server has `sentiment`,
`sentences`, `animals` and `signs`; the second argument is a picture."""

import sys

import numpy
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

address, picture = sys.argv[1:3]
checks = 0


def check(fact, what):
    global checks
    assert fact, what
    checks += 1


def client(model, path=""):
    return InferenceClient(model=f"http://{address}/models/{model}{path}")


def ordered(elements):
    scores = [e.score for e in elements]
    return scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)


labels = client("sentiment").text_classification("A fine day.")
check(len(labels) > 1 and ordered(labels) and abs(sum(e.score for e in labels) - 1) < 1e-4, labels)
best = client("sentiment").text_classification("A fine day.", top_k=1)
check([e.label for e in best] == [labels[0].label] and abs(best[0].score - labels[0].score) < 1e-5, best)
single = client("sentiment").text_classification("A fine day.", function_to_apply="sigmoid")
check(all(0 < e.score < 1 for e in single) and abs(sum(e.score for e in single) - 1) > 1e-3, single)
check(client("sentiment", "/pipeline/text-classification").text_classification("A fine day.") == labels, "by path")

vectors = client("sentences").feature_extraction("a fine day")
check(vectors.shape[0] == 1 and vectors.shape[1] > 8 and vectors.dtype == numpy.float32, vectors.shape)
both = client("sentences", "/pipeline/feature-extraction").feature_extraction(["a fine day", "it rains"], normalize=True)
check(both.shape == (2, vectors.shape[1]), both.shape)
check(numpy.abs(numpy.linalg.norm(both, axis=1) - 1).max() < 1e-5, "normalised")
near = client("sentences").sentence_similarity("a fine day", other_sentences=["a fine day", "it rains"])
check(len(near) == 2 and abs(near[0] - 1) < 1e-4 and abs(near[1] - float(both[0] @ both[1])) < 1e-4, near)

animals = client("animals").image_classification(picture)
check(len(animals) > 1 and ordered(animals), animals)
# With parameters the client sends JSON with the picture in base64.
best = client("animals").image_classification(picture, top_k=1)
check([e.label for e in best] == [animals[0].label] and abs(best[0].score - animals[0].score) < 1e-5, best)

# Where the client expects its own word for what is read.
read = client("signs", "/pipeline/image-to-text").image_to_text(picture)
check(read.generated_text == "海港路 Harbour Road", read)

for ask, status, part in [
    (lambda: client("none").text_classification("a"), 404, "there is no model"),
    (lambda: client("sentiment").text_classification(3), 400, "inputs"),
    (lambda: client("animals").text_classification("%"), 400, "base64"),
    (lambda: client("animals", "/pipeline/image-to-text").image_to_text(picture), 400, "image-classification"),
    (lambda: client("sentiment", "/pipeline/ocr").text_classification("a"), 400, "text-classification"),
]:
    try:
        ask()
    except HfHubHTTPError as error:
        check(error.response.status_code == status and part in error.response.json()["error"], error.response.text)
    else:
        raise AssertionError(part)
print(checks)
