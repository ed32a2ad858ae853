"""Spin: how many replicas a service should have. Pure decisions over a frozen snapshot, shared by every scaler."""
