"""Telling people elsewhere of alerts: a client of the wire like any other."""
