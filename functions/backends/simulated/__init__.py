"""A simulated model server: its answers say that they are simulated."""
