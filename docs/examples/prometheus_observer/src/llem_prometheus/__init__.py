"""A text file of a running study for Prometheus."""
