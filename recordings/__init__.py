"""Recordings as others keep them, read in one way: one ECG lead in microvolts, and its annotations."""
