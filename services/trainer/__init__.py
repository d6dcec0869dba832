"""The trainer: networks, training, export. The only place that imports torch."""
