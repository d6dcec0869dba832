"""The arithmetic of preprocessing: of images read box by box, of masks, and of sets of images; pure, no I/O.

What the steps are called and which parameters they take stands in `shared.schemas.steps`; here they come as fields.
"""
