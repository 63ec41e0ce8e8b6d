"""The backend of llem for OpenAI-compatible servers. Importing this package does not import httptools."""

__version__ = "0.1.0"
