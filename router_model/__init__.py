"""Pick: catalogue, registry, classification, scores and selection. Pure.

Middle layer: imports `events` and libraries, never `functions`.
"""
