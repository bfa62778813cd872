"""Tests of monitor.state."""
