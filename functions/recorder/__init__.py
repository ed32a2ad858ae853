"""The recorder: writes events into the store, ends requests past their deadline, runs batches."""
