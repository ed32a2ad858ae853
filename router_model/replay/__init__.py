"""Recorded requests decided again, and profiles searched over recorded outcomes."""
