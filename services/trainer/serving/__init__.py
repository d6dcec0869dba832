"""What travels with an exported network: the code that runs inside the model server, not in the trainer."""
