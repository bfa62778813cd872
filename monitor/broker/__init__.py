"""Where packets come from and messages go to."""
