"""Care for models that run: pods replaced and spared, offsets kept, services prewarmed."""
