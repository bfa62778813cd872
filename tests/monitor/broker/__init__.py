"""Tests of monitor.broker."""
