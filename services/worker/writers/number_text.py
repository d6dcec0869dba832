"""Numbers as text, a column at a time."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SIGNIFICANT = 6  # digits; more than any of the figures deserves
DECIMALS = 3  # at least: a centroid in a wide slide is as exact as in a small crop
_FINEST = 22  # decimals; 10^22 is the last power of ten that a double holds exactly
_POWERS = 10.0 ** np.arange(_FINEST + 1)


def spell_numbers(values: pa.Array) -> pa.StringArray:
    """The shortest text that keeps six significant digits and three decimals; null stays null."""
    if not pa.types.is_floating(values.type):
        return values.cast(pa.string())
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        whole = np.floor(np.log10(np.abs(numbers)))  # −∞ of zero, which any number of decimals suits
    decimals = np.clip(np.nan_to_num(SIGNIFICANT - 1 - whole, nan=0), DECIMALS, _FINEST).astype(np.intp)
    powers = _POWERS[decimals]
    with np.errstate(over="ignore"):
        rounded = np.rint(numbers * powers) / powers
    rounded = np.where(np.isfinite(rounded), rounded, numbers)  # so large a number has no decimals to round
    return pc.cast(pa.array(rounded, from_pandas=True), pa.string())
