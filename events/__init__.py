"""The wire contract of Pick and Spin: event types, payloads, codecs, ids, limits.

Bottom layer. Imports the standard library, `cloudevents` and `msgspec` only; does no I/O and reads no clock.
"""
