"""Pick: catalogue, registry, classification, score and selection. Pure; imports `events` only (and libraries).

Middle layer: `functions` imports it, it never imports `functions`.
"""
