"""The ingress: every HTTP door of the product, one asyncio process (Starlette on uvicorn).

A request's path: `guarding` (limits, catch-all) -> a door (`inference`, `responses`, `batches`, ...) -> `calls` (what
is asked, checked) -> `accepting` (event, admission, append) -> `waiting` (the reply partition) -> `answering` or
`streaming`. Nothing here decides which model answers: that is the router.
"""
