"""From a study file to the jobs of its engine processes. Pure but for reading models and files."""
