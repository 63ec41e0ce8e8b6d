"""The result folder: raw trials are the truth."""
