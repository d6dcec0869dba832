"""What may happen. Plain functions; each opens the one transaction it needs, and rings only after it."""
