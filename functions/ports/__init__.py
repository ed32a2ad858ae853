"""Ports: small Protocols for what processes need of the outside world, and their frozen data."""
