"""Draws the measured figures as an SVG that reads well on light and on dark grounds."""

WIDTH, ROW, BAR, LEFT, RIGHT, TOP = 760, 30, 18, 210, 120, 34
SIDES = {
    "python_default": ("Python, as written", "#8a8f98"),
    "python_tuned": ("Python, our ONNX Runtime settings", "#b08a3e"),
    "ours": ("larder-inference", "#2f7fd6"),
}
PANELS = [
    ("Cold start beyond a warm request", "milliseconds, less is better", "cold_overhead_ms"),
    ("Warm OCR request, median", "milliseconds, less is better", "warm_ms"),
    ("Peak resident memory", "MiB, less is better", "peak_mib"),
    ("Embeddings, one request at a time", "requests a second, more is better", "embeddings_per_second"),
]
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.axis { fill: #57606a; font-size: 12px }
line { stroke: #8c959f; stroke-opacity: .45 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { fill: #9da7b1 } }
"""


def step(greatest: float) -> float:
    """A round distance between some four to eight ticks."""
    size = 1.0
    while size * 10 < greatest:
        size *= 10
    return next(size * part for part in (0.2, 0.5, 1, 2) if greatest / (size * part) <= 8)


def panel(top: int, title: str, unit: str, values: dict[str, float]) -> tuple[list[str], int]:
    greatest = max(values.values())
    scale = (WIDTH - LEFT - RIGHT) / greatest
    bottom = top + TOP + ROW * len(values)
    parts = [f'<text class="title" x="0" y="{top + 16}">{title}</text>']
    distance, tick = step(greatest), 0.0
    while tick <= greatest:
        x = LEFT + tick * scale
        parts.append(f'<line x1="{x:.1f}" y1="{top + TOP - 6}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="axis" text-anchor="middle" x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>')
        tick += distance
    parts.append(f'<text class="axis" x="0" y="{bottom + 16}">{unit}</text>')
    for number, (side, value) in enumerate(values.items()):
        name, colour = SIDES[side]
        y = top + TOP + ROW * number
        label = name if len(name) < 30 else name.replace("ONNX Runtime", "ORT")
        parts.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{label}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{max(value * scale, 1):.1f}" height="{BAR}" rx="3" fill="{colour}"/>'
        )
        parts.append(f'<text x="{LEFT + value * scale + 7:.1f}" y="{y + 14}">{value:,.0f}</text>')
    return parts, bottom + 44


def plot(found: dict) -> str:
    parts, top = [], 4
    for title, unit, key in PANELS:
        values = {side: found["medians"][side][key] for side in SIDES if key in found["medians"][side]}
        if values:
            drawn, top = panel(top, title, unit, values)
            parts += drawn
    machine, counts = found["machine"], found["counts"]
    note = (
        f"{machine['processor']}, {machine['threads']} threads; medians of {counts['rounds']} rounds, "
        f"{counts['warm_requests']} warm requests a side"
    )
    parts.append(f'<text class="axis" x="0" y="{top}">{note}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {WIDTH + 16} {top + 20}" role="img"'
    return f'{head} aria-label="Speed of larder-inference and of Python">\n<style>{STYLE}</style>\n' + "\n".join(
        parts
    ) + "\n</svg>\n"
