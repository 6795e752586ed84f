"""Draws pictures with text, for tests and the demo: anti-aliased, slightly rotated, on noisy grounds.

    draw.py sign OUT.png --english "Harbour Road" --chinese "海港路" [--seed N]
    draw.py set DIR [--count 36] [--seed N]

`set` also writes DIR/expected.json: {"<file>": ["<line>", ...]}, the lines as they were drawn, from top to
bottom. The same arguments give the same pictures.

Needs the PyPI packages pillow, numpy and noto-cjk-sans-otc (the font, Noto Sans CJK, Open Font License).
"""

import argparse
import json
import pathlib
from dataclasses import dataclass

import noto_cjk_sans_otc
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIMPLIFIED_CHINESE = 2  # the face's index in the collection

# (plate, ink) pairs with the contrast of real signs.
COLOURS = [
    ((0, 70, 150), (255, 255, 255)),
    ((0, 105, 60), (255, 255, 255)),
    ((250, 250, 245), (20, 20, 25)),
    ((245, 200, 40), (25, 25, 20)),
    ((150, 25, 35), (250, 245, 235)),
    ((45, 45, 50), (240, 240, 240)),
    ((205, 225, 235), (15, 35, 90)),
]

ENGLISH = [
    "Harbour Road", "Station Street", "North Gate", "Exit", "Library", "City Museum", "No Parking",
    "Platform 12", "Tickets", "Market Square", "Bus Stop 305", "Riverside Park", "Open 9:00 - 18:00",
    "Hospital", "Airport Express", "Maple Avenue", "Keep Left", "Public Toilets", "Lift to Level 3",
    "Coffee and Tea", "Room 4108", "Fire Exit", "Please queue here", "Wet Floor", "School Zone",
]
CHINESE = [
    "海港路", "车站街", "北门", "出口", "图书馆", "城市博物馆", "禁止停车", "十二号站台", "售票处", "市场广场",
    "公交车站", "滨江公园", "营业时间", "人民医院", "机场快线", "枫树大道", "靠左行驶", "公共厕所", "电梯",
    "咖啡与茶", "会议室", "安全出口", "请在此排队", "小心地滑", "学校区域", "中山东路", "解放大街", "邮政储蓄银行",
]


@dataclass
class Layout:
    """What is on one plate and how it looks."""

    lines: list[str]
    plate: tuple[int, int, int]
    ink: tuple[int, int, int]
    text_height: int
    degrees: float
    noise: float
    blur: float
    margin: int
    frame: bool


def font(height: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(noto_cjk_sans_otc.FONT_PATH), height, index=SIMPLIFIED_CHINESE)


def ground(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A wall or a sky: a soft gradient of muted colours with large and small irregularities, no text."""
    top, bottom = (rng.uniform(80, 190) + rng.uniform(-18, 18, 3) for _ in range(2))
    ramp = np.linspace(0, 1, height)[:, None, None]
    base = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3))
    cells = (max(2, height // 40), max(2, width // 40))
    coarse = 128 + rng.normal(0, 16, (*cells, 1)) + rng.normal(0, 4, (*cells, 3))
    patches = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height), Image.BICUBIC)
    mixed = base + np.asarray(patches, dtype=np.float64) - 128
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def plate(layout: Layout) -> Image.Image:
    """The sign itself, upright, with transparency around its round corners. Chinese lines are larger."""
    size = layout.text_height
    fonts = [font(size if line.isascii() else round(size * 1.35)) for line in layout.lines]
    boxes = [f.getbbox(line) for f, line in zip(fonts, layout.lines)]
    widths = [round(f.getlength(line)) for f, line in zip(fonts, layout.lines)]
    heights = [bottom - top for _, top, _, bottom in boxes]
    gap, border = round(size * 0.7), round(size * 0.6)
    width = max(widths) + 2 * border + size
    height = sum(heights) + gap * (len(heights) - 1) + 2 * border + size // 2
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), size // 2, fill=layout.plate)
    if layout.frame:
        inset, stroke = size // 5, max(2, size // 14)
        draw.rounded_rectangle(
            (inset, inset, width - 1 - inset, height - 1 - inset), size // 3, outline=layout.ink, width=stroke
        )
    y = border + size // 4
    for f, line, box, line_width, line_height in zip(fonts, layout.lines, boxes, widths, heights):
        draw.text(((width - line_width) // 2, y - box[1]), line, font=f, fill=layout.ink)
        y += line_height + gap
    return image


def picture(layout: Layout, rng: np.random.Generator) -> Image.Image:
    """The plate, rotated, with a shadow on a noisy ground."""
    sign = plate(layout).rotate(layout.degrees, Image.BICUBIC, expand=True)
    width, height = sign.width + 2 * layout.margin, sign.height + 2 * layout.margin
    image = ground(rng, width, height)
    shadow = Image.new("RGBA", sign.size, (0, 0, 0, 0))
    shadow.putalpha(sign.getchannel("A").point(lambda a: a // 3))
    at = (layout.margin, layout.margin)
    offset = max(3, layout.text_height // 10)
    image.paste(shadow, (at[0] + offset, at[1] + offset), shadow)
    image.paste(sign, at, sign)
    if layout.blur:
        image = image.filter(ImageFilter.GaussianBlur(layout.blur))
    pixels = np.asarray(image, dtype=np.float64)
    pixels = pixels + rng.normal(0, layout.noise, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def street_sign(english: str, chinese: str) -> Layout:
    """The demo's sign: Chinese above English, white on blue, tilted a little."""
    colours = COLOURS[0]
    return Layout([chinese, english], *colours, 56, 3.0, 8.0, 0.6, 70, True)


def varied(number: int, rng: np.random.Generator) -> Layout:
    """The set's picture `number`: languages, sizes and colours take turns, the rest is drawn by lot."""
    count = 1 + int(rng.integers(0, 4))
    english = [str(t) for t in rng.choice(ENGLISH, count, replace=False)]
    chinese = [str(t) for t in rng.choice(CHINESE, count, replace=False)]
    lines = [english, chinese, [t for pair in zip(chinese, english) for t in pair]][number % 3]
    colours = COLOURS[number % len(COLOURS)]
    text_height = [24, 32, 44, 60, 84][number % 5]
    degrees = float(rng.uniform(-8, 8)) if number % 4 else 0.0
    noise = float(rng.uniform(2, 16))
    blur = float(rng.choice([0.0, 0.5, 0.9]))
    margin = int(rng.integers(4, 120))
    return Layout(lines, *colours, text_height, degrees, noise, blur, margin, bool(rng.integers(0, 2)))


def draw_set(folder: pathlib.Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    expected = {}
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        layout = varied(number, rng)
        name = f"{number:03}.png"
        picture(layout, rng).save(folder / name)
        expected[name] = layout.lines
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws pictures with text, for tests and the demo.")
    commands = parser.add_subparsers(dest="command", required=True)
    sign = commands.add_parser("sign", help="one bilingual street sign")
    sign.add_argument("out", type=pathlib.Path)
    sign.add_argument("--english", required=True)
    sign.add_argument("--chinese", required=True)
    sign.add_argument("--seed", type=int, default=1)
    many = commands.add_parser("set", help="many varied pictures and expected.json")
    many.add_argument("folder", type=pathlib.Path)
    many.add_argument("--count", type=int, default=36)
    many.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.command == "sign":
        layout = street_sign(arguments.english, arguments.chinese)
        picture(layout, np.random.default_rng(arguments.seed)).save(arguments.out)
    else:
        draw_set(arguments.folder, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()
