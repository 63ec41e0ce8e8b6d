"""The machine: GPUs by UUID through NVML, the host, and who else is using them."""
