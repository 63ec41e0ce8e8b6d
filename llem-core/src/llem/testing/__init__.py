"""For authors of plugins: conformance suites to inherit, fakes with a known truth, pytest fixtures.

Needs `pip install llem-core[testing]`. Nothing here is imported by `llem` itself.
"""
