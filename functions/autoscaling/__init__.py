"""Spin: how many replicas a service should have. Pure decisions over a frozen snapshot, shared by every scaler, and how
scalers tell the status topic what they see.
"""
