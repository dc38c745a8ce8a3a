"""What perdure costs, and how fast it comes back: `python -m benchmarks`."""
