"""Measurements: each module is a program whose last line of output is one JSON object. Never part of the tests."""
