"""Running a study: jobs to workers, GPUs, resuming, and what became of each experiment."""
