"""Is everything as the monitor needs it? What is asked of this machine and of the broker, and what to change."""
