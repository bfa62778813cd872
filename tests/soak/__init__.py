"""Faults of every kind, injected into real processes, and what they cost: `python -m tests.soak`."""
