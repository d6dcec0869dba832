"""Every test is a sentence about what the platform does."""
