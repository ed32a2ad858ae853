"""Cascades: a small model answers first, a larger one if the small one was unsure."""
