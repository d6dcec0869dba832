"""A class of promises per port; every adapter passes them."""
