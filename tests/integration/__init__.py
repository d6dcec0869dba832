"""One part of ours against real servers."""
