"""What is alerted on real people, measured: `python -m tests.alerts DATA_DIR`."""
