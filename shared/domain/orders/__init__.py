"""What an order of each kind becomes: the snapshot it is done by, and its first blocks."""
