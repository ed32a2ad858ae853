"""The ingress: every HTTP door of the product, one asyncio process (Starlette on uvicorn).

A request's path: `middleware` (limits, catch-all) -> a door (`openai`, `responses`, `batches`, ...) -> `calls` (what
is asked, checked) -> `submit` (event, admission, append) -> `pending_requests` (the reply
partition) -> `http_responses` or `sse_response`. Nothing here decides which model answers: that is the router.
"""
