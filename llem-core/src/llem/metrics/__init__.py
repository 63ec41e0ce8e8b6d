"""Numbers from raw trials: what is measured becomes metrics with their intervals, findings and a Result. Pure."""
