"""Tests of monitor.ecg."""
