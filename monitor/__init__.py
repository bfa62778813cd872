"""The runtime: packets in, alerts out."""
