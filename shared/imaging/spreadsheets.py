"""Text in tables that spreadsheets open: a cell is never a formula, whoever chose the text."""

_BEGIN = ("=", "+", "-", "@", "\t", "\r")  # what makes a program take a text for a formula (OWASP, "CSV injection")


def disarm_text(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would take it for a formula. Not for numbers."""
    return f"'{text}" if text.startswith(_BEGIN) else text
