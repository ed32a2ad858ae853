"""Model servers: what differs between the kinds (`backend_kinds`), and the programs to start.

Used by workers.
"""
