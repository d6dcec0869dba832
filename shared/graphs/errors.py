"""The error of this room."""


class Unproven(Exception):
    """The analysis cannot say what the graph depends on; the text names the operator. No verdict on the graph."""
