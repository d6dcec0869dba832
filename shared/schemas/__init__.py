"""Wire shapes (pydantic): what users send and get."""
