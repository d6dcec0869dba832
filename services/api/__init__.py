"""The REST API: parse, call the domain, serialise. No pixels."""
