"""The live display of a run, and the time that is left."""
