"""Reading energy and power: instruments, traces of what they said, and the arithmetic of a window."""
