"""Pure arithmetic on pixels and places: values in, values out."""
