"""What the monitor does on this machine: latency per beat, cost beside other software, how many devices it carries."""
