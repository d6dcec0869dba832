"""What findings are called on the page."""

TITLES = {
    "image_blank": "Blank images",
    "image_saturated": "Overexposed images",
    "image_unreadable": "Images that cannot be read",
    "mask_empty": "Empty masks",
    "mask_missing": "Images without a mask",
    "mask_not_labels": "Masks that are no labels",
    "mask_size": "Masks of another size than their image",
    "mask_unreadable": "Masks that cannot be read",
    "class_unknown": "Classes without a name",
    "objects_outside": "Outlines beside the image",
    "objects_split": "Objects in several pieces",
    "objects_tiny": "Objects of a few pixels",
    "polarity_suspected": "Masks that may be inverted",
    "duplicate": "Images that are there twice",
    "near_duplicate": "Images that look the same",
    "same_image": "The same image",
    "abutting": "Neighbouring tiles of one image",
    "same_group": "The same group",
    "same_source": "Cut from the same image",
}

EXPLANATIONS = {
    "same_image": "The very same pixels, whatever the files are called.",
    "near_duplicate": "The same picture compressed, brightened, turned or mirrored; or the same cells a moment later.",
    "abutting": "The border of one goes on in the other: they were probably cut from one larger image.",
    "same_group": "Images of one group, such as a patient or a plate, resemble each other more than new ones will.",
    "same_source": "They were cut from one larger image.",
}


MEANINGS = {
    "instances": "each number is an object",
    "binary": "foreground and background",
    "classes": "each number is a class",
    "coco": "COCO's outlines",
    "geojson": "outlines in GeoJSON",
}


def explain(kind: str) -> str:
    """A sentence about a kind of pair; nothing about a new one."""
    return EXPLANATIONS.get(kind, "")


def title_of(code: str) -> str:
    """The title of a kind of finding; of a new one its code in plain letters."""
    leak = code.removeprefix("leak_")
    title = TITLES.get(leak, leak.replace("_", " ").capitalize())
    return f"{title}, in two splits" if leak != code else title
