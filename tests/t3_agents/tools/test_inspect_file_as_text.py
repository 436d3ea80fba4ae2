import datetime
import email.message
import io
import json
import re
import wave
import zipfile
from pathlib import PurePosixPath

import numpy as np
import openpyxl
import pytest
from fpdf import FPDF
from openpyxl.comments import Comment
from openpyxl.styles import Color, PatternFill
from openpyxl.worksheet.formula import ArrayFormula
from PIL import Image, ImageDraw, ImageFont
from pptx import Presentation
from pptx.util import Inches

from t3_agents.errors import InputError
from t3_agents.media import encode_image
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from tests.helpers import broken_files


ROWS = [("Product", "Units", "Price"), ("Lamp", "12", "19.90"), ("Desk, big", "3", "149.00"), ("Chair", "7", "89.50")]


@pytest.fixture
def tool(use):
    return use(InspectFileAsText())


def make_pdf(path):
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.multi_cell(0, text="Revenue grew by 12 percent.\nCosts were flat.")
    with pdf.table() as table:
        for cells in ROWS:
            row = table.row()
            for cell in cells:
                row.cell(cell)
    pdf.output(str(path))
    return path


def make_pptx(path):
    slides = Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[1])
    slide.shapes.title.text = "Budget 2024"
    slide.placeholders[1].text = "Total 500"
    slide.notes_slide.notes_text_frame.text = "mention the rent"
    slide = slides.slides.add_slide(slides.slide_layouts[5])
    table = slide.shapes.add_table(len(ROWS), 3, Inches(1), Inches(2), Inches(5), Inches(2)).table
    for y, cells in enumerate(ROWS):
        for x, text in enumerate(cells):
            table.cell(y, x).text = text
    slides.save(path)
    return path


def make_xlsx(path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Sales"
    sheet.append(["name", "qty", "price", "day"])
    sheet.append(["Lamp", 2, 19.9, datetime.datetime(2024, 3, 1)])
    sheet.append(["Desk", 1, 0.1 + 0.2, datetime.date(2024, 3, 2)])
    sheet.append(["Sum", "=SUM(B2:B3)"])
    staff = book.create_sheet("Staff")
    staff.append(["who", "age"])
    staff.append(["Ann", 31])
    book.save(path)
    return path


def test_pdf(tool, attach, tmp_path):
    path = attach(make_pdf(tmp_path / "report.pdf"))
    assert "Revenue grew by 12 percent." in tool(path) and "Chair 7 89.50" in tool(path)
    assert tool(path, "What happened to the costs?") == "Costs were flat."


@pytest.mark.parametrize(("words", "is_read"), [("", True), ("Our letter of today, with the logo of the firm", False)])
def test_a_small_picture_is_read_where_a_page_has_no_text(tool, attach, tmp_path, words, is_read):
    picture = Image.new("RGB", (900, 260), "white")
    ImageDraw.Draw(picture).text((40, 100), "Total 48.20", "black", ImageFont.load_default(60))
    pdf = FPDF()
    pdf.set_font("helvetica")
    pdf.add_page()
    pdf.image(picture, 20, 20, 150)
    pdf.cell(text=words or " ")
    pdf.output(tmp_path / "page.pdf")
    text = tool(attach(tmp_path / "page.pdf"))
    assert ("48.20" in text) is is_read and ("[page 1 has 1 pictures that were not read]" in text) is not is_read


def test_pptx_with_notes_and_tables(tool, attach, tmp_path):
    text = tool(attach(make_pptx(tmp_path / "talk.pptx")))
    for part in ("Budget 2024", "Total 500", "mention the rent", "Product,Units,Price\nLamp,12,19.90"):
        assert part in text


def test_xlsx_all_sheets(tool, attach, tmp_path):
    path = attach(make_xlsx(tmp_path / "sales.xlsx"))
    assert tool(path).splitlines() == [
        "Sheet Sales:",
        "name,qty,price,day",
        "Lamp,2,19.9,2024-03-01",
        "Desk,1,0.3,2024-03-02",
        "Sum,=SUM(B2:B3)",
        "Sheet Staff:",
        "who,age",
        "Ann,31",
    ]
    assert tool(path, "How old is Ann?") == "Sheet Staff:\nwho,age\nAnn,31"


def test_a_cell_far_away_does_not_make_millions_of_rows(tool, attach, tmp_path):
    book = openpyxl.Workbook()
    book.active["A1"] = "start"
    book.active["C200000"] = "end"
    book.save(tmp_path / "far.xlsx")
    assert tool(attach(tmp_path / "far.xlsx")).splitlines() == ["Sheet Sheet:", "start", ",,end"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.csv", "name;qty\nLamp;2\n\n", "name,qty\nLamp,2"),
        ("t.csv", 'name,qty\n"Desk, big",1\n', 'name,qty\n"Desk, big",1'),
        ("t.tsv", "name\tqty\nLamp\t2\n", "name,qty\nLamp,2"),
        (
            "t.json",
            json.dumps({"people": [{"name": "Ada", "age": 36}], "n": 3}),
            "people[0]: name: Ada, age: 36\nn: 3",
        ),
        ("t.json", "{broken", "{broken"),
        ("t.json", '{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
        ("t.jsonl", '{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a": 2}'),
        ("t.md", "# Title\n\nText\n", "# Title\nText"),
        ("t.py", "def f():\n    return 1\n", "def f():\n    return 1"),
        ("t.xml", "<a><b>1</b></a>", "<a><b>1</b></a>"),
        ("t.unknown", "plain words", "plain words"),
        ("t", "plain words", "plain words"),
    ],
)
def test_text_formats(tool, put, name, content, expected):
    assert tool(put(content.encode(), name)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso2022_jp"])
def test_encodings_that_show_themselves(tool, put, encoding):
    words = "東京, 5" if encoding == "iso2022_jp" else "naïve café, 5 €"
    assert tool(put(words.encode(encoding), "t.txt")) == words


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", "naïve café, 5 €"),
        ("cp1252", "20°C ± 1"),
        ("cp1250", "město,Dvořák,Plzeň,Šťastný"),
        ("cp1251", "Название,Цена\nХлеб,45"),
        ("koi8-r", "Мы выехали утром."),
        ("cp866", "Имя,Город\nИван,Казань"),
        ("cp1253", "Όνομα,Πόλη\nΜαρία,Πάτρα"),
        ("cp1254", "Ayşe,İstanbul\nÇağrı,Iğdır"),
        ("cp1255", "שם,עיר\nדוד,חיפה"),
        ("cp1256", "الاسم,المدينة\nمحمد,القاهرة"),
        ("cp932", "商品,価格\nりんご,120"),
        ("euc-kr", "이름,도시\n김철수,서울"),
        ("big5", "姓名,城市\n王小明,台北"),
        ("gb18030", "姓名,城市\n李华,上海"),
    ],
)
@pytest.mark.parametrize("name", ["t.txt", "t.csv"])
def test_encodings_that_are_found_are_said(tool, put, encoding, words, name):
    text, _, note = tool(put(words.encode(encoding), name)).rpartition("\n[")
    assert text.replace('"', "") == words if name == "t.txt" else text.startswith(words[:4])
    assert "read as" in note and "confidence" in note


DECLARED = {
    "t.html": '<html><head><meta charset="{}"></head><body><p>{}</p></body></html>',
    "u.html": '<html><head><meta http-equiv="Content-Type" content="text/html; charset={}"></head><p>{}</p></html>',
    "t.xml": '<?xml version="1.0" encoding="{}"?><a>{}</a>',
    "t.py": "#!/usr/bin/python\n# -*- coding: {} -*-\nname = '{}'",
    "t.css": '@charset "{}";\n/* {} */',
    "t.eml": "Subject: x\nContent-Type: text/plain; charset={}\nContent-Transfer-Encoding: 8bit\n\n{}\n",
}


@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.parametrize(
    ("declared", "encoding", "words"),
    [
        ("windows-1251", "cp1251", "Да"),
        ("Shift_JIS", "cp932", "東京"),
        ("cp-850", "cp850", "Größe"),
        ("x", "utf-8", "é"),
    ],
)
def test_declared_encodings(tool, put, name, declared, encoding, words):
    text = tool(put(DECLARED[name].format(declared, words).encode(encoding), name))
    assert words in text and ("no known character set" in text) == (declared == "x")


def test_bytes_that_are_no_text(tool, put):
    text = tool(put("Malmö,Łódź,Zoë\n".encode() + b"x\xffy", "t.txt"))
    assert text.startswith("Malmö,Łódź,Zoë\nx�y\n[") and "1 in all" in text


@pytest.mark.parametrize(
    ("content", "question", "expected"),
    [
        ('id,address\n7,"Unit 7\nHarbour Road"\n', None, "id,address\n7,Unit 7 Harbour Road"),
        ("sep=|\na|b\n1|2\n", "1", "a,b\n1,2"),
        ('"sep=;"\r\na;b\r\n1;2\r\n', "1", "a,b\n1,2"),
        ("Sales 2026\n\nitem;price, net\nLamp;1,50\nDesk;2,50\n", "lamp", 'item,"price, net"\nLamp,"1,50"'),
        ("Sales;;\nitem;qty;price\nLamp;1;2\n", "lamp", "item,qty,price\nLamp,1,2"),
        ("year,2025,2025\nplace,Q1,Q2\nOslo,1,2\n", "oslo", "year,2025,2025\nplace,Q1,Q2\nOslo,1,2"),
        ("name,note\nLamp,big; red\nDesk,old; green\n", "desk", "name,note\nDesk,old; green"),
    ],
)
def test_tables_as_programs_write_them(tool, put, content, question, expected):
    assert tool(put(content.encode(), "t.csv"), question) == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [(1234567890.123, None), (98765432109.87, None), (4006381333931.0, "4006381333931"), (0.1 + 0.2, "0.3")]
    + [(0.1234567890123456, None), (1e-7, "1e-07"), (2**53 - 1.0, "9007199254740991"), (-5.0, "-5")],
)
def test_numbers_in_full(tool, put, tmp_path, number, text):
    book = openpyxl.Workbook()
    book.active.append(["number", number])
    book.save(tmp_path / "n.xlsx")
    assert tool(put(tmp_path / "n.xlsx")).endswith(f",{text or number}")
    digits = "1234567890123456789.10"
    assert tool(put(f'{{"a": {digits}}}'.encode(), "n.json")) == f"a: {digits}"


def test_what_a_workbook_shows_beside_its_values(tool, put, tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for row in [["Sales 2026"], ["Region", 2025, None, "change"], [None, "Q1", "Q2"], ["North", 1, 2], [None, 3, 4]]:
        sheet.append(row)
    for area in ("A1:D1", "A2:A3", "B2:C2", "A4:A5"):
        sheet.merge_cells(area)
    sheet["B4"].fill = sheet["C5"].fill = PatternFill("solid", fgColor="FFFF0000")
    sheet["B5"].fill = PatternFill("solid", fgColor=Color(theme=4, tint=0.6))
    sheet["D4"] = ArrayFormula("D4", "=SUM(B4:C4*2)")
    sheet["D5"].comment = Comment("check with Ann", "Bo")
    book.create_sheet("Old").sheet_state = "hidden"
    book["Old"].append(["gone"])
    book.save(tmp_path / "w.xlsx")
    path = put(tmp_path / "w.xlsx")
    labels = "Sheet Sheet:\nRegion,2025,2025,change\nRegion,Q1,Q2"
    assert tool(path, "How many in the North?") == f"{labels}\nNorth,1,2,=SUM(B4:C4*2)\nNorth,3,4"
    text = tool(path)
    assert text.startswith("Sheet Sheet:\nSales 2026\nRegion,") and "Sheet Old (hidden):\ngone" in text
    assert "2 cells filled red (#FF0000): B4, C5" in text and "1 cells filled blue" in text
    assert "Comment at D5: check with Ann" in text


def test_html(tool, put):
    page = b"<html><head><style>p{}</style><script>x()</script></head><body><h1>Hi</h1><p>Some text</p>"
    page += b"<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>"
    text = tool(put(page, "t.html"))
    assert "Hi" in text and "Some text" in text and "a,b\n1,2" in text and "x()" not in text


def test_mail(tool, put):
    mail = email.message.EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", "Lunch"
    mail.set_content("See you at noon.")
    mail.add_attachment(b"123", maintype="application", subtype="pdf", filename="menu.pdf")
    text = tool(put(mail.as_bytes(), "m.eml"))
    for part in (
        "From: a@example.org",
        "Subject: Lunch",
        "See you at noon.",
        "Attachment: menu.pdf (application/pdf)",
    ):
        assert part in text


@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "b.png"),
        ("a.jpg", "b.png", "c.png"),
        ("a.png", "notes.txt", "b.jpg", "more/a.png"),
        ("inner.zip", "a.gif", "b.png"),
    ],
    ids=len,
)
def test_each_picture_of_an_archive_is_the_right_one(tool, put, tmp_path, names):
    colors = iter([(255, 0, 0), (0, 0, 255), (0, 255, 0), (9, 9, 9), (250, 200, 0)])
    expected = []

    def member(name):
        data = io.BytesIO()
        if name.endswith("txt"):
            return b"words"
        if name.endswith("zip"):
            with zipfile.ZipFile(data, "w") as inner:
                inner.writestr("x.png", member("x.png"))
                inner.writestr("y.bmp", member("y.bmp"))
            return data.getvalue()
        expected.append(next(colors))
        Image.new("RGB", (8, 8), expected[-1]).save(data, Image.registered_extensions()[PurePosixPath(name).suffix])
        return data.getvalue()

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, member(name))
    text = tool(put(tmp_path / "a.zip"))
    saved = re.findall(r"Picture (\S+):", text)
    pixels = np.array([tool.open_image(path).getpixel((3, 3)) for path in saved])
    assert len(set(saved)) == len(expected)
    assert np.abs(pixels - np.array(expected)).max() < 3, "JPEG is not exact"


def test_silence(tool, put, tmp_path):
    with wave.open(str(tmp_path / "silence.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(64000))
    assert tool(put(tmp_path / "silence.wav")) == "No speech was recognised in it."


def test_question_without_a_match_gives_everything(tool, put):
    assert tool(put(b"a,b\n1,2\n", "t.csv"), "What about penguins?") == "a,b\n1,2"


def test_header_words_alone_do_not_hide_the_rows(tool, put):
    assert tool(put(b"price,qty\n5,1\n7,2\n", "t.csv"), "What is the highest price?") == "price,qty\n5,1\n7,2"


def test_long_text_is_cut_with_a_note(use, put):
    tool = use(InspectFileAsText(max_chars=100))
    text = tool(put(b"one two three\n" * 100, "t.txt"))
    assert text.startswith("one two three\none two three\n")
    assert text.endswith("\n[cut after 97 of 1399 characters, in line 7 of 100: ask a question about the rest]")
    assert tool(put(b"one two three\n" * 100, "t.txt"), "two").endswith("ask a narrower question]")


def test_the_lines_that_fit_the_question_best_are_kept(tool, put):
    rows = "".join(f"item {n},{n * 2}\n" for n in range(1000))
    assert tool(put(f"name,price\n{rows}".encode(), "t.csv"), "price of item 777") == "name,price\nitem 777,1554"


def test_wrong_extension_of_a_known_content(tool, put):
    assert "412 ships" in tool(put(broken_files.FILES / "writer.pdf", "r.txt"))
    assert "Sheet Stock:" in tool(put(broken_files.FILES / "calc.xlsx", "s.docx"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.txt", b"", "is empty"),
        ("b.pdf", b"%PDF-1.4 garbage", "damaged"),
        ("b.pdf", b"just words", "wrong extension"),
        ("b.docx", b"PK\x03\x04garbage", "damaged"),
        ("b.xlsx", b"words", "wrong extension"),
        ("b.bin", b"\0\1\2" * 50, "binary file"),
        ("b.wav", b"RIFF0000WAVEgarbage", "cannot be read"),
        ("p.png", b"whatever", "visualizer"),
        ("p.txt", b"\x89PNG\r\n\x1a\n", "visualizer"),
        ("v.mp4", b"\0\0\0\x18ftypmp42", "damaged"),
    ],
)
def test_files_that_cannot_be_read(tool, put, name, content, message):
    with pytest.raises(InputError, match=message) as caught:
        tool(put(content, name))
    assert "\n" not in str(caught.value)


def test_an_empty_workbook_container(tool, put, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w") as archive:
        archive.writestr("readme.txt", "no workbook")
    with pytest.raises(InputError, match="no xlsx file inside"):
        tool(put(tmp_path / "x.xlsx"))


def test_encrypted_pdf(tool, put, tmp_path):
    with pytest.raises(InputError, match="password"):
        tool(put(tmp_path / broken_files.locked("locked.pdf")(tmp_path)))


@pytest.mark.parametrize("path", ["files/none.txt", "../up.txt", "/etc/hostname", "", "files"])
def test_paths_that_cannot_be_used(tool, put, path):
    put(b"x", "t.txt")
    with pytest.raises(InputError):
        tool(path)


@pytest.mark.parametrize(("name", "member"), [("b.docx", "word/document.xml"), ("b.xlsx", "xl/workbook.xml")])
def test_zip_bomb(tool, put, tmp_path, name, member):
    with (
        zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w", force_zip64=True) as stream,
    ):
        for _ in range(420):
            stream.write(b"\0" * 2**20)
    with pytest.raises(InputError, match="unpacks to"):
        tool(put(tmp_path / name))


def test_entity_bombs(tool, put, tmp_path):
    assert "ENTITY" in tool(put(f"{broken_files.ENTITIES}]><l>&e9;</l>".encode(), "b.xml"))
    write = broken_files.with_entity("writer.docx", "word/document.xml", b"<w:document", b"Mira", "laughs")
    try:
        assert len(tool(put(tmp_path / write(tmp_path)))) < 2000
    except InputError as error:
        assert "laughs.docx" in str(error)


def test_too_large(use, put):
    tool = use(InspectFileAsText(max_megabytes=1))
    with pytest.raises(InputError, match="reads up to 1 MB"):
        tool(put(b"x" * (2**20 + 1), "big.txt"))


def test_reading_stops_in_a_long_file(tool, put):
    text = tool(put(b"word " * 2_000_000, "long.txt"))
    assert len(text) < 1800 and "[cut after 1499 of 40" in text
    assert text.endswith("[the rest of the file was not read: this tool stops after 4,000,000 characters]")


def test_missing_extra_names_the_extra():
    from t3_agents.errors import MissingExtraError

    assert "t3-agents[tools]" in str(MissingExtraError("kreuzberg", "tools", "Reading documents"))


def test_mails_in_mails_and_their_words(tool, put):
    inner = email.message.EmailMessage()
    inner["Subject"] = "Gate"
    inner.set_content("Gate B12")
    inner.add_attachment(b"a;b\n1;2\n", maintype="text", subtype="csv", filename="seats.csv")
    mail = email.message.EmailMessage()
    mail["Subject"] = "=?uft-8?q?Caf=C3=A9?="
    mail.set_content("<p>See below, <b>Ann</b></p>", subtype="html")
    mail.add_related(encode_image(Image.new("RGB", (8, 8), "red")), maintype="image", subtype="png", cid="<1>")
    mail.add_attachment(inner)
    text = tool(put(mail.as_bytes().replace(b'charset="utf-8"', b"charset=utf8mb4"), "m.eml"))
    for part in ("Subject: Café", "See below, **Ann**", "Gate B12", "seats.csv:\na,b\n1,2", "Picture outputs/m_1.png"):
        assert part in text
