"""Tests of monitor.service."""
