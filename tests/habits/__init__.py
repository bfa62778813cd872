"""What the project asks of its own code and documents."""
