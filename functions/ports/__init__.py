"""Ports: small Protocols for what processes need of the outside world, and the frozen data they pass."""
