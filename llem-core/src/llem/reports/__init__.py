"""What is shown of results and of the machine. Reads, never measures."""
