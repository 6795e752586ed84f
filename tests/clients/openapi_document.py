"""Validates an OpenAPI document, and its examples against their schemas; prints how many fit."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

document = json.load(open(sys.argv[1], encoding="utf-8"))
assert document["openapi"].startswith("3.1."), document["openapi"]
OpenAPIV31SpecValidator(document).validate()

fitting = 0
for path, operations in document["paths"].items():
    for method, operation in operations.items():
        bodies = [operation.get("requestBody", {}), operation["responses"]["200"]]
        for body in bodies:
            for media, content in body.get("content", {}).items():
                if "example" not in content:
                    continue
                # Schemas refer to /components, so the whole document is the schema's base.
                schema = {**document, "allOf": [content["schema"]]}
                errors = list(Draft202012Validator(schema).iter_errors(content["example"]))
                assert not errors, f"{method} {path} {media}: {errors[0].message}"
                fitting += 1
print(fitting)
