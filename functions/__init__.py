"""Everything that runs: the processes, their adapters, and the local stack.

Top layer. Inside it: processes > factories > adapters > ports, settings, errors.
Each process has one `main.py` that wires it. Decisions are pure modules beside it.
"""
