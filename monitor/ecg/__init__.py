"""The signal path: raw samples in, finished heartbeats out; no I/O."""
