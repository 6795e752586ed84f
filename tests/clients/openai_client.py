"""OpenAI's client against /v1; prints the number of checks. The server has the tensor models of graphs.py."""

import sys

import openai

client = openai.OpenAI(base_url=f"http://{sys.argv[1]}/v1", api_key="none", max_retries=0)
checks = 0


def check(fact, what):
    global checks
    assert fact, what
    checks += 1


models = client.models.list().data
check(models and all(m.object == "model" and m.owned_by == "larder" for m in models), models)
name = models[0].id
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
print(checks)
