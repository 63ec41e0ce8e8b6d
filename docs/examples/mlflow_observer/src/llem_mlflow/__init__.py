"""Results of llem as runs of MLflow."""
