"""The worker's part of a job: one module per stage, each a function from claimed work to its outcome."""
