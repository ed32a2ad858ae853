"""Everything that runs: ingress, router, worker, recorder, callbacks, spin, and the local stack.

Top layer. Inside it: processes > adapters > ports, settings, errors. One wiring place per process (`app.py` or
`main.py`); decisions are pure modules beside it.
"""
