"""The TensorRT-LLM backend of llem. Importing this package does not import tensorrt_llm.

Not yet run on the real library: tested against a stand-in that enforces the documented signatures.
"""

__version__ = "0.1.0"
