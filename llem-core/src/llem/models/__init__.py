"""Models: Hugging Face ids, folders, and `shape:` architectures with seeded random weights."""
