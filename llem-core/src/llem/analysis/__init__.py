"""Many results together: frames, comparisons, effects of axes, the Pareto front. Pure."""
