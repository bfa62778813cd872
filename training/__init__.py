"""From beats to a trained network and an honest report."""
