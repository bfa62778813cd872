"""The monitor as a running service: loop, workers, settings, health, logs."""
