"""Pictures that plain words describe completely: charts, shapes and cards with text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw, ImageFont

from t3_agents.errors import InputError, needs_extra

from .text import put_back, take_quoted


ABILITIES = (
    "a bar, line or pie chart of given numbers ('bar chart of apples 3, pears 5'); shapes with counts, colours and "
    "places ('two red circles at the left and a blue square at the top right on white'); a card with text in quotes "
    "('a yellow poster with the text \"Open\"'); a size such as 400x300"
)
_SIZE = (640, 480)
_MIN_SIDE, _MAX_SIDE, _MAX_SHAPES = 16, 4096, 200

_NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
_NUMBERS = {"a": 1, "an": 1, "the": 1, **{word: number for number, word in enumerate(_NUMBER_WORDS, 1)}}
_KINDS = {
    **{kind: kind for kind in "circle triangle square rectangle diamond pentagon hexagon star line ellipse".split()},
    **{"disc": "circle", "disk": "circle", "dot": "circle", "ring": "ring", "oval": "ellipse", "box": "square"},
}
_SCALES = {"tiny": 0.25, "small": 0.45, "big": 0.9, "large": 0.9, "huge": 1.0}
_COLOR = "|".join(sorted(ImageColor.colormap, key=len, reverse=True))
_KIND = "|".join(_KINDS)
_SHAPE = re.compile(
    rf"\b(?:(?P<count>\d+|{'|'.join(_NUMBERS)})\s+)?"
    rf"(?P<looks>(?:(?:{'|'.join(_SCALES)}|(?:light|dark)\s?(?:{_COLOR})|{_COLOR}|filled|solid|plain)[\s,]+)*)"
    rf"(?P<kind>{_KIND})(?:e?s)?\b",
    re.IGNORECASE,
)
_GROUND = re.compile(
    rf"\b(?:on|with|over|against)\s+(?:an?\s+|the\s+)?(?:plain\s+|solid\s+)?(?P<on>{_COLOR})"
    rf"(?:\s+(?:background|ground|canvas|paper))?\b|\b(?P<of>{_COLOR})\s+(?:background|ground|canvas|poster|card|sign|"
    rf"banner|label|button)\b",
    re.IGNORECASE,
)
_INK = re.compile(
    rf"\b(?:(?:in|with)\s+(?:big\s+|large\s+|bold\s+)?(?P<after>{_COLOR})(?:\s+(?:letters|ink|font|text))?|"
    rf"(?P<before>{_COLOR})\s+(?:text|letters|words|title|caption))\b",
    re.IGNORECASE,
)
# A place is a column and a row of a 3 x 3 grid.
_COLUMNS = {"left": 0, "right": 2}
_ROWS = {"top": 0, "upper": 0, "bottom": 2, "lower": 2}
_PLACE = re.compile(
    r"\b(?:in|at|on|to)?\s*(?:the\s+)?(?:(?P<row>top|upper|bottom|lower)(?:[\s-]+(?P<corner>left|right))?|"
    r"(?P<column>left|right)|(?P<middle>cent(?:er|re)|middle))(?:\s+(?:corner|side|half|edge))?\b",
    re.IGNORECASE,
)
_RELATIONS = {
    "left of": ((0, 1), (2, 1)),
    "right of": ((2, 1), (0, 1)),
    "above": ((1, 0), (1, 2)),
    "over": ((1, 0), (1, 2)),
    "below": ((1, 2), (1, 0)),
    "under": ((1, 2), (1, 0)),
}
_RELATION = re.compile(rf"\b(?:to\s+the\s+)?({'|'.join(_RELATIONS)})\b", re.IGNORECASE)
_FILLER = set(
    """a an the of and with in on at to by for as is are it its this that there be me my please picture image drawing
    illustration graphic png create draw generate make render show showing shows display simple basic flat geometric
    plain shape shapes different size sized pixels px wide high tall text texts title titled word words letters caption
    heading headline label says say saying reads read reading written writing large big bold centered centred poster
    card sign banner flyer button logo placard background next beside side each other row from left canvas black white
    colour color colored coloured font readable""".split()
)


@dataclass(frozen=True)
class _Item:
    """One shape to draw: kind, color, share of its cell (0-1) and its place in the grid (column, row), if any."""

    kind: str
    color: str
    scale: float
    place: tuple[int, int] | None


def draw(prompt: str) -> Image.Image:
    """The picture that a prompt describes, RGB.

    Raises:
        InputError: when something in the prompt cannot be drawn; the message names it and says what can be.
        MissingExtraError: when a chart is asked for and matplotlib is not installed.
    """
    bare, quoted = take_quoted(" ".join(prompt.split()))
    size = _SIZE
    if match := re.search(r"\b(\d{2,5})\s*(?:x|×|by)\s*(\d{2,5})\b(?:\s*pixels|\s*px)?", bare):
        size = int(match.group(1)), int(match.group(2))
        if not all(_MIN_SIDE <= side <= _MAX_SIDE for side in size):
            raise InputError(f"A picture has {_MIN_SIDE} to {_MAX_SIDE} pixels a side, not {size[0]} x {size[1]}.")
        bare = bare.replace(match.group(0), " ")
    if match := re.search(r"\b(bar|column|line|pie)\s+(?:chart|graph|plot|diagram)\b", bare, re.IGNORECASE):
        return _chart(match.group(1).lower(), bare[: match.start()], bare[match.end() :], quoted, size)
    return _card(bare, quoted, size)


def _chart(kind: str, before: str, after: str, quoted: list[str], size: tuple[int, int]) -> Image.Image:
    title = ""
    if match := re.search(r"\b(?:titled|title|called|named|heading)\b[\s:]*(?:is\s+)?<(\d+)>", f"{before} | {after}"):
        title = quoted[int(match.group(1))][1:-1]
        after = after.replace(match.group(0), " ")
    if match := re.match(r"\s*([^:,]*):(?!\s*-?\d[\d.,]*\s*%?\s*(?:[,;]|and\b|$))", after):
        title = title or re.sub(r"^\s*(?:of|for|showing|with)\s+(?:the\s+)?", "", match.group(1)).strip()
        after = after[match.end() :]
    pieces = [piece.strip(" .") for piece in re.split(r",(?!\d{3}\b)|;|\band\b", after)]
    rows: list[tuple[str, float]] = []
    for piece in filter(None, pieces):
        piece = re.sub(r"^(?:of|for|showing|with|the|data|values?|numbers?|and|:|\s)+(?=\s|\d)", "", piece).strip()
        match = re.fullmatch(
            r"(?:(.+?)\s*(?:\s|[:=(]|\bis\b|\bhas\b)\s*)?(-?\d[\d,]*(?:\.\d+)?)\s*%?\)?", piece, re.IGNORECASE
        )
        if not match:
            raise InputError(
                f"`{put_back(piece, quoted)}` is no label with a number: write 'bar chart of apples 3, pears 5'."
            )
        label = put_back(match.group(1) or str(len(rows) + 1), quoted).strip("\"“”' ")
        rows.append((label, float(match.group(2).replace(",", ""))))
    if not rows:
        raise InputError("A chart needs its numbers: 'bar chart of apples 3, pears 5'.")
    if kind == "pie" and (min(value for _, value in rows) < 0 or not any(value for _, value in rows)):
        raise InputError("The parts of a pie chart are positive numbers.")
    return _plot(kind, title, rows, size)


def _plot(kind: str, title: str, rows: list[tuple[str, float]], size: tuple[int, int]) -> Image.Image:
    with needs_extra("matplotlib", "tools", "Drawing charts"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    labels, values = [label for label, _ in rows], [value for _, value in rows]
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = range(len(rows))
    points = max(6, min(size) / 30)
    if kind == "pie":
        axes.pie(values, labels=labels, autopct="%1.1f%%", textprops={"fontsize": points})
    elif kind == "line":
        axes.plot(places, values, marker="o")
    else:
        axes.bar_label(axes.bar(places, values), fmt="{:g}", fontsize=points)
    if kind != "pie":
        # Long labels in a narrow picture are turned, so that they do not run into each other.
        turned = max(map(len, labels)) * len(labels) * points > size[0]
        axes.tick_params(labelsize=points)
        axes.set_xticks(places, labels, rotation=45 if turned else 0, ha="right" if turned else "center")
    if title:
        axes.set_title(title, fontsize=1.2 * points)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def _card(bare: str, quoted: list[str], size: tuple[int, int]) -> Image.Image:
    texts = [quoted[int(number)][1:-1] for number in re.findall(r"<(\d+)>", bare)]
    rest = re.sub(r"<\d+>", " ", bare)
    ground, ink = "white", None
    if match := _GROUND.search(rest):
        ground = (match.group("on") or match.group("of")).lower()
        rest = rest[: match.start()] + " " + rest[match.end() :]
    if texts and (match := _INK.search(rest)):
        ink = (match.group("after") or match.group("before")).lower()
        rest = rest[: match.start()] + " " + rest[match.end() :]
    items, rest = _items(rest, ground)
    unknown = [word for word in re.findall(r"[^\W_]+", rest.lower()) if word not in _FILLER]
    if unknown or not (items or texts):
        what = f"draw `{' '.join(unknown[:6])}`" if unknown else "tell what to draw"
        raise InputError(f"This tool cannot {what}. It draws {ABILITIES}.")
    image = Image.new("RGB", size, ground)
    top = 0
    if texts:
        top = size[1] if not items else size[1] // 3
        _write("\n".join(texts), image, (0, 0, size[0], top), ink or _contrast(ground))
    _place(items, image, (0, top, *size))
    return image


def _items(text: str, ground: str) -> tuple[list[_Item], str]:
    """Shapes that a text names, and the words that say something else."""
    matches = list(_SHAPE.finditer(text))
    spans = [(match.end(), after.start()) for match, after in zip(matches, matches[1:], strict=False)]
    spans = spans + [(matches[-1].end(), len(text))] if matches else []
    rest, groups, given = text[: matches[0].start()] if matches else text, [], None
    for match, (start, end) in zip(matches, spans, strict=True):
        tail, place, given_next = text[start:end], given, None
        if relation := _RELATION.search(tail):
            place, given_next = _RELATIONS[relation.group(1).lower()]
            tail = tail.replace(relation.group(0), " ", 1)
        elif found := _PLACE.search(tail):
            column = found.group("corner") or found.group("column") or ""
            place = (_COLUMNS.get(column.lower(), 1), _ROWS.get((found.group("row") or "").lower(), 1))
            tail = tail.replace(found.group(0), " ", 1)
        rest += f" {tail}"
        given = given_next
        groups.append((match, place))
    items: list[_Item] = []
    for match, place in groups:
        count = (match.group("count") or "a").lower()
        looks = match.group("looks").lower()
        color = re.search(rf"((?:light|dark)\s?)?\b({_COLOR})\b", looks)
        name = re.sub(r"\s", "", color.group(0)) if color else _contrast(ground)
        name = name if name in ImageColor.colormap else color.group(2)
        scale = next((value for word, value in _SCALES.items() if word in looks), 0.7)
        number = int(count) if count.isdigit() else _NUMBERS[count]
        items += [_Item(_KINDS[match.group("kind").lower()], name, scale, place)] * min(number, _MAX_SHAPES + 1)
    if len(items) > _MAX_SHAPES:
        raise InputError(f"This tool draws at most {_MAX_SHAPES} shapes in one picture.")
    return items, rest


def _contrast(ground: str) -> str:
    red, green, blue = ImageColor.getrgb(ground)[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "white"


def _write(text: str, image: Image.Image, box: tuple[int, int, int, int], ink: str) -> None:
    """Text in the middle of a box, as large as fits, its lines broken between words."""
    canvas = ImageDraw.Draw(image)
    width, height = (box[2] - box[0]) * 0.9, (box[3] - box[1]) * 0.8
    for points in range(max(10, round(height / 2.5)), 9, -1):
        font = ImageFont.load_default(points)
        lines = [line for part in text.split("\n") for line in _broken(part, font, width)]
        _, _, right, bottom = canvas.multiline_textbbox((0, 0), "\n".join(lines), font=font)
        if right <= width and bottom <= height:
            break
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    canvas.multiline_text(middle, "\n".join(lines), font=font, fill=ink, anchor="mm", align="center")


def _broken(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _place(items: list[_Item], image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draw shapes in their cells: those of one place share it, those without a place share what is left to them."""
    placed = any(item.place for item in items)
    groups: dict[tuple[int, int] | None, list[_Item]] = {}
    for item in items:
        groups.setdefault(item.place or ((1, 1) if placed else None), []).append(item)
    for place, members in groups.items():
        x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
        if place is not None:
            width, height = width / 3, height / 3
            x, y = x + place[0] * width, y + place[1] * height
        columns = math.ceil(math.sqrt(len(members) * width / height))
        columns = min(max(1, columns), len(members))
        rows = math.ceil(len(members) / columns)
        for index, item in enumerate(members):
            row, column = divmod(index, columns)
            middle = (x + (column + 0.5) * width / columns, y + (row + 0.5) * height / rows)
            _shape(item, ImageDraw.Draw(image), middle, min(width / columns, height / rows) * item.scale / 2)


# Corners of a regular figure on a circle: how many, and every how many the inner circle of a star is used.
_CORNERS = {"triangle": 3, "diamond": 4, "pentagon": 5, "hexagon": 6, "star": 10}


def _shape(item: _Item, canvas: ImageDraw.ImageDraw, middle: tuple[float, float], radius: float) -> None:
    x, y = middle
    across = radius * (0.9 if item.kind == "square" else 1)
    down = across * (0.55 if item.kind in ("ellipse", "rectangle") else 1)
    box = (x - across, y - down, x + across, y + down)
    if item.kind in ("circle", "ellipse"):
        canvas.ellipse(box, fill=item.color)
    elif item.kind == "ring":
        canvas.ellipse(box, outline=item.color, width=max(2, round(radius / 5)))
    elif item.kind in ("square", "rectangle"):
        canvas.rectangle(box, fill=item.color)
    elif item.kind == "line":
        canvas.line((x - radius, y, x + radius, y), fill=item.color, width=max(2, round(radius / 12)))
    else:
        corners = _CORNERS[item.kind]
        points = []
        for corner in range(corners):
            angle = 2 * math.pi * corner / corners - math.pi / 2
            reach = radius * (0.42 if item.kind == "star" and corner % 2 else 1)
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        canvas.polygon(points, fill=item.color)
