"""Cascades: a small model answers first, a larger one where the small one was unsure."""
