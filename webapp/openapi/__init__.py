"""The OpenAPI document, made from routes, doors and the types of answers; loaded only when somebody asks.

`parts` is what an operation is made of, `schemas` JSON Schema from our types, `refusals` which codes can come where and
what they mean; `parameters`, `submitting`, `jobs`, `uploads`, `batches` and `box` say what no type can; `document` puts
it all together.
"""
