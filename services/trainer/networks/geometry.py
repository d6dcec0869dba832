"""Which sizes a network of the UNet family takes, and how far it looks: consequences of its depth."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Of `depth` poolings by 2 with two 3×3 convolutions at each level, on the way down and on the way up.

    Padded convolutions (the default) keep the size, and what the padding spoils stays within `halo` px of the border.
    Valid ones (Ronneberger et al. 2015) take one pixel off each side instead: the answer is `margin` px smaller.
    """

    depth: int
    valid: bool = False

    @property
    def grid(self) -> int:
        """Sides and origins of tiles are multiples of this, px: 2^depth."""
        return int(2**self.depth)

    @property
    def margin(self) -> int:
        """Px lost on each side to valid convolutions: 8, 20, 44, 92, … = 6·2^depth − 4.

        Of the answer's side a: the bottom is b px wide where 2^depth · b = a + 4·(2^depth − 1), as each level on the
        way up loses 4; the input is 2^depth · b + 8·2^depth − 4, as each level on the way down loses 4, too.
        """
        return 6 * self.grid - 4 if self.valid else 0

    @property
    def halo(self) -> int:
        """How far a cut may spoil the answer, px, rounded up to the grid.

        A padded 3×3 convolution carries the damage one pixel further. On the way down, pooling halves it and two
        convolutions add 2, so it never exceeds 4 px of the bottom; every level up doubles it and adds 2: 4, 10, 22,
        46, 94, which is 6·2^depth − 2. Valid convolutions need their margin.
        """
        reach = self.margin if self.valid else 6 * self.grid - 2
        return -(-reach // self.grid) * self.grid

    @property
    def cut(self) -> int:
        """Px that a tile loses on each side, so that valid convolutions accept what remains.

        The same for every tile, so that a pixel meets its neighbours in the same poolings whatever tile it is read by.
        """
        return (self.halo - self.margin) // 2 if self.valid else 0

    @property
    def spoilt(self) -> int:
        """Px next to its border that two convolutions answer wrongly: the padding's. Valid ones do not answer there."""
        return 0 if self.valid else 2

    @property
    def skip_crops(self) -> list[int]:
        """Px that the encoder's features lose on each side before they are joined on the way up, deepest first."""
        return [12 * 2**step - 8 if self.valid else 0 for step in range(self.depth)]

    def refuse_image(self, image: Tensor) -> None:
        """Raise ValueError, naming the multiple and the nearest sizes, unless `image` (N, C, H, W) has sides that fit.

        They do if every pooling meets an even number of pixels, and something is left for the answer.
        """
        height, width = image.shape[-2:]
        lost = 2 * self.margin
        if not (self._suits(height - lost) and self._suits(width - lost)):
            rule, near = self._rule(lost), [self._nearest(side - lost) + lost for side in (height, width)]
            raise ValueError(
                f"both sides must be {rule}, got {height} × {width}; pad by mirroring, to {near[0]} × {near[1]} say"
            )

    def refuse_crop(self, side: int) -> None:
        """Raise ValueError, naming the multiple and the nearest that does, unless an answer may have this side, px."""
        if not self._suits(side):
            raise ValueError(
                f"sides of an answer must be {self._rule(0)} for a network of {self.depth + 1} levels, "
                f"got {side}; {self._nearest(side)} would do"
            )

    @property
    def _least(self) -> int:
        """The smallest side of an answer, px. The others are whole grid steps larger."""
        return min(self.grid, 4) if self.valid else self.grid

    def _suits(self, side: int) -> bool:
        return side >= self._least and (side - self._least) % self.grid == 0

    def _nearest(self, side: int) -> int:
        return max(round((side - self._least) / self.grid), 0) * self.grid + self._least

    def _rule(self, lost: int) -> str:
        rest = (self._least + lost) % self.grid
        least = f", {self._least + lost} at least" if self.valid else ""
        return f"multiples of {self.grid} px" + (f" plus {rest}" if rest else "") + least


def crop(features: Tensor, margin: int) -> Tensor:
    """(N, C, H, W) to (N, C, H − 2 margin, W − 2 margin): without the `margin` px next to each border."""
    if margin == 0:
        return features  # a slice of everything would still be a node of the exported graph
    inner = slice(margin, -margin)
    return features[:, :, inner, inner]
