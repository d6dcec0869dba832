"""From probabilities to objects: split, joined across blocks, measured, outlined.

Every block of an image is worked on by itself, and what comes out is what the whole image would have given.
"""
