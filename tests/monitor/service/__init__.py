"""Tests of monitor.service.loop."""
