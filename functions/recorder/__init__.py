"""The recorder: what the log says goes into the store, what nobody else can end is ended, batches are run."""
