"""Callbacks: signed webhooks with retries, to targets that are judged before every connection."""
