"""What nobody asked for is not computed: where the features of each node of a UNet may begin."""

from collections.abc import Mapping
from dataclasses import dataclass

Node = tuple[int, int]  # (level, column) as in the UNet++: column 0 is the way down, (0, last) gives the answer
Inputs = dict[Node, list[Node]]  # whose features each node takes, those before it first


@dataclass(frozen=True)
class Trimming:
    """Of a tile whose middle is all that counts: `starts` says from which px on each node takes its inputs.

    Counted from the tile's border, at the resolution of the node's level; the same on all four sides.
    """

    starts: Mapping[Node, int]

    def between(self, source: Node, target: Node) -> int:
        """Px that the features of `source` lose on each side before `target` takes them.

        Counted at the coarser of the two resolutions: after pooling, before doubling.
        """
        coarser = max(source[0], target[0])
        return self.at(target, coarser) - self.at(source, coarser)

    def at(self, node: Node, level: int) -> int:
        """Where `node` begins, in px of its own level or a coarser one."""
        return self.starts[node] >> (level - node[0])


def trim(inputs: Inputs, asked: Mapping[Node, int], *, spoilt: int) -> Trimming:
    """The latest starts with which the answers of `asked` stay what they are from the given px of their level on.

    Two padded convolutions spoil 2 px inside whatever border they meet, so a node begins `spoilt` px before it must be
    right, if the tile reaches that far. Starts are even, so that poolings keep meeting the same pixels. The tile itself
    is taken whole: engines read its bytes straight into the first convolution, and a crop would come between.
    """
    needed, starts = dict(asked), {}
    for node in reversed(inputs):
        start = starts[node] = max(needed[node] - spoilt, 0) // 2 * 2 if inputs[node] else 0
        for source in inputs[node]:
            wanted = start * 2 ** (node[0] - source[0]) if source[0] <= node[0] else start // 2
            needed[source] = min(wanted, needed.get(source, wanted))
    return Trimming(starts)


def unet_inputs(depth: int) -> Inputs:
    """Of a UNet with `depth` poolings: node (i, depth − i) joins (i, 0) and the doubled node before it."""
    way_up = {(level, depth - level): [(level, 0), (level + 1, depth - level - 1)] for level in reversed(range(depth))}
    return {**_way_down(depth), **way_up}


def nested_inputs(depth: int) -> Inputs:
    """Of a UNet++: node (i, j) joins (i, 0) … (i, j − 1) and the doubled node (i + 1, j − 1)."""
    nested = {
        (level, column): [*((level, before) for before in range(column)), (level + 1, column - 1)]
        for column in range(1, depth + 1)
        for level in range(depth + 1 - column)
    }
    return {**_way_down(depth), **nested}


def _way_down(depth: int) -> Inputs:
    return {(level, 0): [(level - 1, 0)] if level else [] for level in range(depth + 1)}
