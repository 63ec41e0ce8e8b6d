"""The report: one HTML file that is read without llem, without a network and, for what matters, without a script."""
