"""What every process uses: settings, errors, logs and metrics, shutdown, probes, offsets."""
