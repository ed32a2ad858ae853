"""The ingress: the HTTP API of the product, one asyncio process (Starlette on uvicorn).

`middleware` surrounds every call with limits and the catch-all. `api` has the routes.
`pipeline.run` is the path of an inference request, from the first byte to the answer.
The ingress never decides which model answers. The router does.
"""
