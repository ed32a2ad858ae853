"""The ingress: the HTTP API of the product, one asyncio process (Starlette on uvicorn).

The path of a request: `middleware` (limits, catch-all) -> its API (`openai`, `responses`,
`batches`, ...) -> `parse_call` (checks the call) -> `submit` (event, admission, append) ->
`pending_requests` (waits for the reply) -> `http_responses` or `sse_response`.
The ingress never decides which model answers. The router does.
"""
