"""What every process runs on: settings, errors, logs and metrics, shutdown, probes, offsets."""
