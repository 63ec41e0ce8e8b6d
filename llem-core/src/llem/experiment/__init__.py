"""One configuration, measured: the procedure and its phases, and the worker that runs it."""
