"""OpenAI's client against /v1; prints the number of checks. The server has `net` (tensors) and `sentences`."""

import sys

import numpy
import openai

client = openai.OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="none", max_retries=0)
checks = 0


def check(fact, what):
    global checks
    assert fact, what
    checks += 1


models = client.models.list().data
check(models and all(m.object == "model" and m.owned_by == "larder" for m in models), models)
name = "net"
check([m.id for m in models] == ["net", "sentences"], models)
check(client.models.retrieve(name).id == name, name)

for ask, kind, status, part in [
    (lambda: client.models.retrieve("none"), openai.NotFoundError, 404, "there is no model"),
    (lambda: client.embeddings.create(model="none", input="a"), openai.NotFoundError, 404, "there is no model"),
    (lambda: client.embeddings.create(model=name, input="a"), openai.BadRequestError, 400, "feature-extraction"),
    (lambda: client.embeddings.create(model=name, input=[1, 2]), openai.BadRequestError, 400, "tokens"),
    (lambda: client.embeddings.create(model=name, input="a", dimensions=-1), openai.BadRequestError, 400, "dimensions"),
]:
    try:
        ask()
    except kind as error:
        check(error.status_code == status and part in error.message, error.message)
        check(error.type == "invalid_request_error", error.body)
        check((error.code == "model_not_found") == (status == 404), error.body)
        check(error.request_id, "the answer has an id")
    else:
        raise AssertionError(f"{kind.__name__} was not raised")

def vectors(texts, **more):
    answer = client.embeddings.create(model="sentences", input=texts, **more)
    check([d.index for d in answer.data] == list(range(len(answer.data))), answer.data)
    check(answer.usage.prompt_tokens == answer.usage.total_tokens > 0, answer.usage)
    return numpy.array([d.embedding for d in answer.data], dtype=numpy.float64)


texts = ["a fine day", "the rain has ended", "a fine day"]
# Without a format the client asks for base64 and decodes it.
decoded, listed = vectors(texts), vectors(texts, encoding_format="float")
check(decoded.shape[0] == 3 and decoded.shape[1] > 8, decoded.shape)
check(numpy.abs(decoded - listed).max() < 1e-6, "base64 and float are the same vectors")
check(numpy.abs(decoded[0] - decoded[2]).max() < 1e-5, "the same text has the same vector")
check(numpy.abs(decoded[0] - decoded[1]).max() > 1e-3, "another text has another")
check(numpy.abs(vectors(texts[0])[0] - decoded[0]).max() < 1e-5, "one text alone")
short = vectors(texts, dimensions=4)
expected = decoded[:, :4] / numpy.linalg.norm(decoded[:, :4], axis=1, keepdims=True)
check(numpy.abs(short - expected).max() < 1e-5, "fewer dimensions, at length 1")
try:
    vectors(texts, dimensions=100_000)
except openai.BadRequestError as error:
    check("dimensions" in error.message, error.message)
else:
    raise AssertionError("more dimensions than there are")
print(checks)
