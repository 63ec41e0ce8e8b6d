"""The vLLM backend of llem. Importing this package imports neither vllm nor torch."""

__version__ = "0.1.0"
