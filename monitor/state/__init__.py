"""What must outlive the process, and when a packet may be acknowledged."""
