"""Results of llem as runs of Weights & Biases."""
