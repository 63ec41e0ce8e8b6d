"""The validation of llem on one NVIDIA GPU: what is measured, and what is computed of it.

    python -m benchmarks.validation measure FOLDER --pack OUT [--part NAME …]     needs the GPU
    python -m benchmarks.validation write FIGURES                                 needs none

Run from the repository's root. `measure` runs llem's production code: its sampling process, its windows, `llem.run`
studies. `write` computes every figure from the raw data with llem's own functions and writes the page.
"""
