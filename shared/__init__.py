"""What the services agree on: rows, wire shapes, rules and pure image arithmetic. Imports no service."""
