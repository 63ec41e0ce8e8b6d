"""A set of experiments, run one after the other, each into the store."""
