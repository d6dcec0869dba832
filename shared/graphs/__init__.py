"""What can be known of an exported graph without running it."""

from shared.graphs.analysis import GraphFacts, analyse
from shared.graphs.errors import Unproven

__all__ = ["GraphFacts", "Unproven", "analyse"]
