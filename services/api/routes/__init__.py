"""One module per resource: parse, call the domain, serialise."""
