"""Callbacks: signed webhooks with retries. Every target is checked before each connection."""
