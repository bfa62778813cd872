"""Commands beside the monitor: clients, history, benchmarks, the doctor."""
