"""Files that independent programs made are read right: see `tests/data/made_by_others/README.md`."""

from pathlib import Path

import pytest

from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from tests.helpers import DATA


FILES = DATA / "made_by_others"

REPORT = (
    "Mira Olsen",
    "the harbour counted",
    "412 ships",
    'North,180,22500\n"South, old",132,9870\nEast,100,15000\n',
    "The crane at the East quay will be repaired in June.",
    "Größe und Länge: naïve façade, 5 €.",
)
STOCK = 'item,qty,price,day,total\nRope,12,4.5,2024-03-01,54\n"Lamp, red",3,19.99,2024-03-02,59.97'
CREW = "Crew list:\nname,role\nZoë,cook"
SLIDES = (
    "Slide 1:\nFirst stop: Bergen\nArrive 08:15\nLeave 17:40\nNotes:\nTell them about the fish market.\n"
    "Slide 2:\nSecond stop: Oslo\nArrive 09:05\n3 excursions\nNotes:\nMention the opera house."
)
BIRDS = 'bird,seen,place\nheron,4,"pond, north"\nMöwe,31,quay\nowl,1,barn'
TIDES = "Tide table\nHigh water 04:12\nLow water 10:31\nSecond page\nWind from the west"
SPEECH = "Transcript (may hold mistakes): the meeting starts at nine"

WHOLE = {
    "calc.xlsx": f"Sheet Stock:\n{STOCK}\nSheet {CREW}",
    "calc.ods": f"Sheet Stock:\n{STOCK}\nSheet {CREW}",
    "calc_semicolon.csv": STOCK,
    "impress.pptx": SLIDES,
    "pandoc.pptx": SLIDES,
    "ghostscript.pdf": "Page 1:\nTide table\nHigh water 04:12\nLow water 10:31\n"
    "Page 2:\nSecond page\nWind from the west",
    "sqlite.csv": BIRDS,
    "sqlite.tsv": BIRDS,
    "sqlite.json": "[0]: bird: heron, seen: 4, place: pond, north\n[1]: bird: Möwe, seen: 31, place: quay\n"
    "[2]: bird: owl, seen: 1, place: barn",
    "sqlite.jsonl": '{"bird":"heron","seen":4}\n{"bird":"Möwe","seen":31}\n{"bird":"owl","seen":1}',
    "xmllint.xml": (FILES / "xmllint.xml").read_text().rstrip(),
    "iconv_utf16.txt": "Größe der Boote: 7 m",
    "mpack.eml": f"Subject: Stock of the week\n{TIDES}\nAttachment: stock.csv (application/octet-stream)\nstock.csv:\n"
    'item,qty,price,day,total\nRope,12,4.5,2024-03-01,=B2*C2\n"Lamp, red",3,19.99,2024-03-02,=B3*C3\n'
    "Anchor,1,250,2024-03-05,=B4*C4",
    "infozip.zip": "notes/tide.txt 77 bytes\nbirds.csv 65 bytes\nred.png 170 bytes\n"
    f"notes/tide.txt:\n{TIDES}\nbirds.csv:\n{BIRDS}\n"
    "red.png:\nPicture outputs/infozip_1.png: red.png (look at it with visualizer)",
}
PARTS = {
    "writer.pdf": (*REPORT[:3], "South, old 132 9870", *REPORT[4:]),
    "writer.docx": REPORT,
    "writer.doc": (*REPORT[:3], '"South, old",132,9870', *REPORT[4:]),
    "calc.xls": ("Stock", "Rope,12,4.5,2024-03-01", '"Lamp, red",3,19.99', "Crew list\nname,role\nZoë,cook"),
    "pandoc.docx": REPORT,
    "pandoc.odt": REPORT,
    "pandoc.epub": REPORT,
    "pandoc.html": (*REPORT[:1], *REPORT[2:]),
    "pandoc.rtf": REPORT,
    "pandoc.ipynb": ("Cell 1 (markdown):\n# Traffic", "**412 ships**", "Größe und Länge"),
    "groff.txt": ("\nNAME\n", "keel - the lowest beam of a ship"),
    "7zip.zip": ("tide.txt 77 bytes", "[1]: bird: Möwe, seen: 31", f"tide.txt:\n{TIDES}"),
}
SPOKEN = ("ffmpeg.wav", "ffmpeg.mp3", "sox.flac", "ffmpeg.m4a")


@pytest.fixture
def tool(use):
    return use(InspectFileAsText())


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_text(tool, put, name):
    assert tool(put(FILES / name)) == WHOLE[name]


@pytest.mark.parametrize("name", sorted(PARTS))
def test_parts_in_their_order(tool, put, name):
    text, place = tool(put(FILES / name)), 0
    for part in PARTS[name]:
        place = text.find(part, place)
        assert place >= 0, f"{part!r} is not in its place in {text!r}"


@pytest.mark.parametrize("name", SPOKEN)
def test_speech(tool, put, name):
    assert tool(put(FILES / name)) == SPEECH


def test_video(tool, put, workspace):
    lines = tool(put(FILES / "ffmpeg.mp4")).splitlines()
    assert lines[0] == "Video: 4.0 seconds, 320 x 240 pixels, 10 frames a second."
    assert lines[1:5] == [
        f"Picture outputs/ffmpeg_{n}.png: frame at 0:0{n - 1} (look at it with visualizer)" for n in range(1, 5)
    ]
    assert lines[5:] == [SPEECH]
    frames = [image.open_image() for image in workspace.new_images()]
    assert [frame.size for frame in frames] == [(320, 240)] * 4
    assert len({frame.tobytes() for frame in frames}) == 4


def test_every_file_is_tested_and_they_are_of_16_formats():
    names = {path.name for path in FILES.iterdir()} - {"README.md", "locked"}
    assert names == {*WHOLE, *PARTS, *SPOKEN, "ffmpeg.mp4"}
    assert len(names) >= 20 and len({Path(name).suffix for name in names}) >= 16
    assert max((FILES / name).stat().st_size for name in names) < 50_000


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("writer.docx", "How many tonnes at the North quay?", "Quay,Ships,Tonnes\nNorth,180,22500"),
        ("calc.xlsx", "What is the role of Zoë?", "Sheet Crew list:\nname,role\nZoë,cook"),
        ("infozip.zip", "Where was the heron?", 'birds.csv:\nbird,seen,place\nheron,4,"pond, north"'),
        ("mpack.eml", "price of the anchor", "stock.csv:\nitem,qty,price,day,total\nAnchor,1,250,2024-03-05,=B4*C4"),
        ("impress.pptx", "When do we leave?", "Leave 17:40"),
    ],
)
def test_questions(tool, put, name, question, answer):
    assert answer in tool(put(FILES / name), question)
