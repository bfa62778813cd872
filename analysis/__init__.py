"""A recording through the monitor's engine, and what was found in it: tables, annotations, strips, reports."""
