"""Charts as SVG, to stand in a page: its style colours them, so that they follow light and dark.

What the page's style says is said in attributes as well, for programs that apply no style to pictures.
"""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 480, 180  # of what is plotted against axes, in units of the picture
LEFT, BOTTOM, TOP = 46, 34, 8  # margins
LINE = 22  # height of a bar with its air
NAMES = 170  # width of the column of names
LONGEST = 26  # letters of a name


def draw_bars(title: str, description: str, bars: Sequence[tuple[str, int]]) -> Markup:
    """Lying bars, each with name and number."""
    most = max((value for _, value in bars), default=0) or 1
    room = WIDTH - NAMES - 70
    rows = Markup("").join(
        _draw_bar(place, name, value, room * value / most) for place, (name, value) in enumerate(bars)
    )
    return _frame(title, description, max(len(bars), 1) * LINE, rows)


def _draw_bar(place: int, name: str, value: int, length: float) -> Markup:
    top = place * LINE
    return (
        Markup('<text class="name" text-anchor="end" font-size="12" x="{}" y="{}">{}</text>').format(
            NAMES - 8, top + 15, _shorten(name)
        )
        + Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="{}"/>').format(
            NAMES, top + 3, length, LINE - 6
        )
        + Markup('<text class="value" font-size="12" x="{:.1f}" y="{}">{:,}</text>').format(
            NAMES + length + 6, top + 15, value
        )
    )


def draw_columns(title: str, description: str, values: Sequence[float], ticks: Sequence[tuple[float, str]]) -> Markup:
    """Standing columns without gaps. `ticks`: place in columns from the left, and what to write there."""
    most = max(values, default=0) or 1
    step = (WIDTH - LEFT) / max(len(values), 1)
    plot = HEIGHT - BOTTOM - TOP
    columns = Markup("").join(
        Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>').format(
            LEFT + place * step, TOP + plot * (1 - value / most), max(step - 0.5, 0.5), plot * value / most
        )
        for place, value in enumerate(values)
        if value
    )
    return _frame(title, description, HEIGHT, columns + _draw_axis(ticks, step) + _draw_most(f"{most:,.0f}"))


def draw_lines(
    title: str, description: str, lines: Sequence[Sequence[float]], ticks: Sequence[tuple[float, str]]
) -> Markup:
    """Lines over one axis, in percent of their sum: one in the colour of bars, or red, green and blue."""
    most = max((value for line in lines for value in line), default=0) or 1
    names = ("grey",) if len(lines) == 1 else ("red", "green", "blue")
    step = (WIDTH - LEFT) / max((len(line) for line in lines), default=1)
    plot = HEIGHT - BOTTOM - TOP
    drawn = Markup("")
    for name, line in zip(names, lines, strict=True):
        # The square root shows the few bright pixels of a dark image beside the many dark ones.
        heights = [TOP + plot * (1 - (value / most) ** 0.5) for value in line]
        points = " ".join(f"{LEFT + (place + 0.5) * step:.1f},{height:.1f}" for place, height in enumerate(heights))
        drawn += Markup('<polyline class="line {0}" fill="none" stroke="{0}" points="{1}"/>').format(name, points)
    return _frame(title, description, HEIGHT, drawn + _draw_axis(ticks, step) + _draw_most(f"{most:.0%}"))


def _draw_axis(ticks: Sequence[tuple[float, str]], step: float) -> Markup:
    base = HEIGHT - BOTTOM
    axis = Markup('<line class="axis" stroke="grey" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(LEFT, base, WIDTH, base)
    return axis + Markup("").join(
        Markup('<text class="tick" text-anchor="middle" font-size="12" x="{:.1f}" y="{}">{}</text>').format(
            LEFT + place * step, base + 18, text
        )
        for place, text in ticks
    )


def _draw_most(text: str) -> Markup:
    return Markup('<text class="name" text-anchor="end" font-size="12" x="{}" y="{}">{}</text>').format(
        LEFT - 6, TOP + 10, text
    )


def _frame(title: str, description: str, height: int, content: Markup) -> Markup:
    """Readers of the screen are read title and description."""
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}</svg>').format(
        WIDTH + 20, height + 4, title, description, content
    )


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
