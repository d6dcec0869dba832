"""Names of files arranged into images with masks, with the contents that a test tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.errors import Rejected
from shared.layouts import Arrangement, Layout, arrange, detect


@dataclass
class Told:
    """Contents as a test says they are."""

    page_counts: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)

    def pages(self, name: str) -> int:
        if name not in self.page_counts:
            raise Rejected(f"{name}: damaged")
        return self.page_counts[name]

    def text(self, name: str) -> bytes:
        return self.texts.get(name, b"{}")


def arranged(names: Sequence[str], contents: Told | None = None, layout: Layout | None = None) -> Arrangement:
    return arrange(layout or detect(names).layout, names, contents or Told())


def masks_of(arrangement: Arrangement) -> dict[str, tuple[str, ...]]:
    return {entry.image: entry.mask_files for entry in arrangement.entries}


def reasons_of(arrangement: Arrangement) -> dict[str, str]:
    return dict(arrangement.ignored)
