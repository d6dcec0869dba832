"""The report about a dataset version: one page that opens anywhere, and the same as JSON."""
