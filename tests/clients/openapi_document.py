"""Validates an OpenAPI document, its examples against their schemas, and answers that were really given: a list of
[method, path, status, media type, JSON]. Prints how many examples and answers fit."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

document, answers = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
assert document["openapi"].startswith("3.1."), document["openapi"]
OpenAPIV31SpecValidator(document).validate()


def fits(value, content, what):
    # Schemas refer to /components, so the whole document is the schema's base.
    schema = {**document, "allOf": [content["schema"]]}
    errors = list(Draft202012Validator(schema).iter_errors(value))
    assert not errors, f"{what}: {errors[0].message}"


examples = 0
for path, operations in document["paths"].items():
    for method, operation in operations.items():
        bodies = [operation.get("requestBody", {}), operation["responses"]["200"]]
        for body in bodies:
            for media, content in body.get("content", {}).items():
                for example in content.get("examples", {}).values():
                    fits(example["value"], content, f"example of {method} {path} {media}")
                    examples += 1
for method, path, status, media, answer in answers:
    responses = document["paths"][path][method]["responses"]
    response = responses.get(str(status)) or responses[f"{status // 100}XX"]
    fits(answer, response["content"][media], f"answer of {method} {path} {status}: {answer}")
print(examples, len(answers))
