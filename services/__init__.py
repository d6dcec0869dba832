"""One folder per process. None imports another."""
