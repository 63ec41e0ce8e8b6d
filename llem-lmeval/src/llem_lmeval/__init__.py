"""EleutherAI's lm-evaluation-harness as an evaluator of llem."""

__version__ = "0.1.0"
