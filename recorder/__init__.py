"""The raw ECG, kept: a client of the wire that writes down what devices send, and hands it out again."""
