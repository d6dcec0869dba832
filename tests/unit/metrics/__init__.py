"""How good a segmentation is, against other implementations and cases worked by hand."""
