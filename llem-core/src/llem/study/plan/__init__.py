"""From a study file to the jobs of its engine processes, and who says which is next. Loads no engine, runs nothing."""
