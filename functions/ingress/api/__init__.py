"""The HTTP API: one module for each resource. Everything here parses, calls the path, and answers."""
