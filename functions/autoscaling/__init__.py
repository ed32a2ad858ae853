"""How many replicas a service should have. Used by the scaler and by the local stack.

Pure decisions over a frozen snapshot, and the status events that report them.
"""
