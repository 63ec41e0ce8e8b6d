"""Where a worker runs. Each launcher is only a way to run `llem worker ORDER.json`."""
