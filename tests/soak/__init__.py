"""Faults of every kind, done to real processes, and what was lost by them: `python -m tests.soak`."""
