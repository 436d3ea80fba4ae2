"""What documents hold beside their running text is read, and what is not read is said."""

import io
import zipfile

import numpy as np
import openpyxl
import pypdf
import pytest
import soundfile
from docx import Document
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from fpdf import FPDF
from PIL import Image
from pptx import Presentation
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches
from pypdf.generic import ArrayObject, DictionaryObject, FloatObject, NameObject, TextStringObject

from t3_agents.errors import InputError
from t3_agents.media import encode_image
from t3_agents.task import File
from t3_agents.tools.inspect_file_as_text import InspectFileAsText
from t3_agents.tools.readers.media import mixed
from tests.t3_agents.tools.conftest import FONT


BOX = (
    '<w:r {ns}><w:pict><v:shape xmlns:v="urn:schemas-microsoft-com:vml"><v:textbox><w:txbxContent><w:p><w:r>'
    "<w:t>{text}</w:t></w:r></w:p></w:txbxContent></v:textbox></v:shape></w:pict></w:r>"
)
TWICE = (
    '<w:r {ns}><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
    '<mc:Choice Requires="wps"><w:drawing><wps:wsp xmlns:wps="http://schemas.microsoft.com/office/word/2010/'
    'wordprocessingShape"><wps:txbx><w:txbxContent><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:txbxContent></wps:txbx>'
    "</wps:wsp></w:drawing></mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
)


@pytest.fixture
def tool(use):
    return use(InspectFileAsText(max_chars=6000))


def saved(document):
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def made_strict(data):
    """An office file in the namespaces of ISO 29500 Strict."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old, new = b"http://schemas.openxmlformats.org/", b"http://purl.oclc.org/ooxml/"
    for name, content in members.items():
        for part in (b"officeDocument", b"wordprocessingml", b"spreadsheetml", b"presentationml", b"drawingml"):
            content = content.replace(old + part + b"/2006/", new + part + b"/")
        members[name] = content
    return zipped(members)


def letter():
    document = Document()
    section = document.sections[0]
    section.header.paragraphs[0].text = "INV-77"
    section.footer.add_table(1, 2, Inches(4)).cell(0, 1).text = "VAT 5"
    section.different_first_page_header_footer = True
    section.first_page_header.paragraphs[0].text = "First page"
    ns = nsdecls("w")
    for text, form in (("Box one", BOX.format(ns=ns, text="Box one")), ("Box two", "")):
        paragraph = document.add_paragraph("Before. ")
        form = form or TWICE.format(ns=ns, text=text, box=BOX.format(ns=ns, text=text))
        paragraph._p.append(parse_xml(form))
        paragraph.add_run(" After.")
    table = document.add_table(3, 2)
    for place, text in enumerate(["Region", "Units", "North", "5", "", "7"]):
        table.cell(*divmod(place, 2)).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    document.add_comment(document.add_paragraph("Checked").runs[0], text="by whom?", author="Ann")
    document.add_picture(io.BytesIO(encode_image(Image.new("RGB", (9, 9)))))
    return saved(document)


@pytest.mark.parametrize("form", ["transitional", "strict"])
def test_word(tool, put, form):
    path = put(letter() if form == "transitional" else made_strict(letter()), "a.docx")
    text = tool(path)
    for part in ("Header: INV-77", "Header: First page", "Footer: VAT 5", "Before.", "After.", "by whom?"):
        assert part in text
    assert text.count("Box one") == text.count("Box two") == 1
    assert "1 pictures that were not read" in text
    assert "Region,Units\nNorth,7" in tool(path, "What stands at 7?")


@pytest.mark.parametrize("form", ["transitional", "strict"])
def test_slides(tool, put, form):
    slides = Presentation()
    place = (Inches(1), Inches(1), Inches(4), Inches(3))
    data = CategoryChartData()
    data.categories = ["Q1", "Q2"]
    data.add_series("North", (41, 52.25))
    data.add_series("South", (7, None))
    points = XyChartData()
    points.add_series("Speed").add_data_point(1.5, 20)
    for kind, values in ((XL_CHART_TYPE.COLUMN_CLUSTERED, data), (XL_CHART_TYPE.PIE, data)):
        chart = slides.slides.add_slide(slides.slide_layouts[6]).shapes.add_chart(kind, *place, values).chart
        chart.has_title = True
        chart.chart_title.text_frame.text = "Units sold"
    slide = slides.slides.add_slide(slides.slide_layouts[6])
    slide.shapes.add_chart(XL_CHART_TYPE.XY_SCATTER, *place, points)
    slide.shapes.add_group_shape().shapes.add_textbox(*place).text_frame.text = "grouped"
    slide.shapes.add_picture(io.BytesIO(encode_image(Image.new("RGB", (9, 9)))), 0, 0)
    slide._element.set("show", "0")
    path = put(saved(slides) if form == "transitional" else made_strict(saved(slides)), "a.pptx")
    text = tool(path)
    assert "Chart: Units sold:\n,North,South\nQ1,41,7\nQ2,52.25" in text
    assert "Slide 2:\nChart: Units sold:\n,North\nQ1,41\nQ2,52.25" in text  # a pie has one series
    assert "Slide 3 (hidden):\nChart:\n,Speed\n1.5,20" in text and "grouped" in text
    assert "slide 3 has 1 pictures that were not read" in text
    assert tool(path, "Units of the North in Q2?").startswith("Chart: Units sold:\n,North,South\nQ2,52.25")


def test_word_files_of_other_programs(tool, put):
    document = Document()
    ns, link = nsdecls("w"), "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
    paragraph = document.add_paragraph("See ")
    known = document.part.relate_to("http://x.org/a", f"{link}hyperlink", is_external=True)
    name = f'{nsdecls("w", "r")} r:id="{known}"'
    paragraph._p.append(parse_xml(f"<w:hyperlink {name}><w:r><w:t>the site</w:t></w:r></w:hyperlink>"))
    paragraph.add_run(" end")._r.append(parse_xml(f'<w:footnoteReference {ns} w:id="2"/>'))
    notes = f'<w:footnotes {ns}><w:footnote w:id="2"><w:p><w:r><w:t>Small print 88</w:t></w:r></w:p></w:footnote>'
    media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    part = Part(PackURI("/word/footnotes.xml"), media_type, f"{notes}</w:footnotes>".encode(), document.part.package)
    document.part.relate_to(part, f"{link}footnotes")
    text = tool(put(saved(document), "a.docx"))
    assert "See the site (http://x.org/a) end[2]" in text and "Small print 88" in text
    with zipfile.ZipFile(io.BytesIO(saved(document))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # Other names for the same namespaces.
    members["word/document.xml"] = members["word/document.xml"].replace(b"w:", b"q:").replace(b":w=", b":q=")
    assert "See the site" in tool(put(zipped(members), "b.docx")).replace("[the site](http://x.org/a)", "the site")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (rb"{\rtf1\ansi\ansicpg1251\f0 \'cf\'f0\'e8\'e2\'e5\'f2}", "Привет"),
        (rb"{\rtf1{\fonttbl{\f0\fcharset238 A;}{\f1\fcharset161 B;}}\f0 \'a3\'f3d\'9f \f1\'cc\'e1}", "Łódź Μα"),
        (rb"{\rtf1{\fonttbl{\f3\fnil\fcharset128 MS;}}{\f3 \'93\'8c\'8b\'9e} caf\'e9}", "東京 café"),
        (rb"  {\rtf1 one {\header Head}{\footnote small}}", "one"),
    ],
)
def test_character_sets_of_fonts(tool, put, text, words):
    assert words in tool(put(text, "a.rtf"))


def test_strict_workbook(tool, put):
    book = openpyxl.Workbook()
    book.active.append(["item", "count"])
    book.active.append(["Widget", 120])
    assert tool(put(made_strict(saved(book)), "a.xlsx")) == "Sheet Sheet:\nitem,count\nWidget,120"


def test_a_workbook_that_openpyxl_does_not_open(tool, put):
    book = openpyxl.Workbook()
    book.active.append(["item", "count"])
    book.create_chartsheet("Empty")
    text = tool(put(saved(book), "a.xlsx"))
    assert "item,count" in text and "may be missing" in text


ODF = 'xmlns:{0}="urn:oasis:names:tc:opendocument:xmlns:{1}:1.0"'
NAMES = (
    " ".join(
        ODF.format(short, long)
        for short, long in dict(
            office="office", text="text", table="table", draw="drawing", style="style", fo="xsl-fo-compatible"
        ).items()
    )
    + ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def opendocument(kind, body, styles="", **more):
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    content = (
        f"<office:document-content {NAMES}>{styles}<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    )
    return zipped({"mimetype": media_type, "content.xml": f"{content}</office:document-content>", **more})


def test_opendocument_text(tool, put):
    header = "<style:header><text:p>INV-<text:span>77</text:span></text:p></style:header>"
    styles = f"<office:document-styles {NAMES}><office:master-styles><style:master-page>{header}"
    body = """<text:p>Before<draw:frame><draw:text-box><text:p>Box one</text:p></draw:text-box></draw:frame> after
        <text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Small print</text:p>
        </text:note-body></text:note><office:annotation><dc:creator>Ann</dc:creator><text:p>by whom?</text:p>
        </office:annotation></text:p><text:list><text:list-item><text:p>Listed</text:p></text:list-item></text:list>
        <draw:frame><draw:image xlink:href="Pictures/1.png"/></draw:frame>"""
    styles += "</style:master-page></office:master-styles></office:document-styles>"
    text = tool(put(opendocument("text", body, **{"styles.xml": styles}), "a.odt"))
    for part in ("Header: INV-77", "after", "Small print", "Comment by Ann: by whom?", "Listed", "1 pictures"):
        assert part in text
    assert text.count("Box one") == 1 and "Before after" in " ".join(text.split())


def test_opendocument_sheets_and_slides(tool, put):
    style = '<style:style style:name="g" style:family="table-cell"><style:table-cell-properties fo:background-color='
    style = f'<office:automatic-styles>{style}"#00ff00"/></style:style></office:automatic-styles>'
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>".format
    number = ' office:value-type="float" office:value="{}"'.format
    spans = ' table:number-rows-spanned="2"'
    rows = [
        cell("", "place") + cell("", "ean") + cell("", "day"),
        cell(spans, "North") + cell(number(4006381333931), "4.01E12") + cell(' table:style-name="g"', ""),
        "<table:covered-table-cell/>" + cell(number("98765432109.87"), "9.88E10"),
        '<table:table-cell table:number-columns-repeated="1024"/>',
    ]
    table = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    sheet = opendocument("spreadsheet", f'<table:table table:name="S">{table}</table:table>', style)
    text = "Sheet S:\nplace,ean,day\nNorth,4006381333931\nNorth,98765432109.87\n"
    assert tool(put(sheet, "a.ods")) == f"{text}Sheet S: 1 cells filled green (#00FF00): C2"
    page = "<draw:page><draw:frame><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame></draw:page>".format
    slides = opendocument("presentation", page("One") + page("Two"))
    assert tool(put(slides, "a.odp")) == "Slide 1:\nOne\nSlide 2:\nTwo"


def scan(text):
    """A page of a scanner: pixels only."""
    from PIL import ImageDraw, ImageFont

    image = Image.new("RGB", (800, 1100), "white")
    ImageDraw.Draw(image).text((80, 120), text, fill="black", font=ImageFont.truetype(str(FONT), 36))
    return image


@pytest.mark.parametrize("pages", [["scan"], ["text", "scan"], ["scan", "text", "scan"]], ids="-".join)
def test_scanned_pages(tool, put, pages):
    pdf = FPDF()
    pdf.set_font("helvetica", size=14)
    for number, kind in enumerate(pages, 1):
        pdf.add_page()
        if kind == "text":
            pdf.text(20, 30, f"Cover {number}")
        else:
            pdf.image(scan(f"Total {number}8.20"), 0, 0, pdf.w, pdf.h)
    text = tool(put(bytes(pdf.output()), "a.pdf"))
    for number, kind in enumerate(pages, 1):
        assert (f"Cover {number}" if kind == "text" else f"Total {number}8.20") in text
    assert "read with OCR" in text


def test_scanned_pages_are_bounded(put, use):
    pdf = FPDF()
    for number in range(4):
        pdf.add_page()
        pdf.image(scan(f"Sheet {number}"), 0, 0, pdf.w, pdf.h)
    tool = use(InspectFileAsText())
    tool.max_scanned_pages = 2
    text = tool(put(bytes(pdf.output()), "a.pdf"))
    assert "Sheet 1" in text and "Sheet 2" not in text and "not read: 2 more pages, from page 3 on" in text


def test_form_fields_and_remarks(tool, put):
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=14)
    pdf.text(20, 30, "Claim")
    pdf.text_annotation(50, 50, "ask Bo first")
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(bytes(pdf.output())))
    values = [("Name", "/Tx", TextStringObject("Jordan")), ("Town", "/Ch", TextStringObject("Łódź"))]
    values += [("Paid", "/Btn", NameObject("/Yes")), ("Note", "/Tx", TextStringObject(""))]
    fields = ArrayObject()
    for number, (name, kind, value) in enumerate(values):
        box = ArrayObject(map(FloatObject, (100, 600 - 30 * number, 300, 620 - 30 * number)))
        widget = {"/Type": NameObject("/Annot"), "/Subtype": NameObject("/Widget"), "/Rect": box}
        widget |= {"/FT": NameObject(kind), "/T": TextStringObject(name), "/V": value}
        if kind == "/Btn":
            look = writer._add_object(pypdf.generic.StreamObject())
            widget |= {"/AS": value, "/AP": DictionaryObject({NameObject("/N"): DictionaryObject({value: look})})}
        fields.append(
            writer._add_object(DictionaryObject({NameObject(key): content for key, content in widget.items()}))
        )
    annotations = writer.pages[0].get("/Annots", ArrayObject())
    writer.pages[0][NameObject("/Annots")] = ArrayObject([*annotations, *fields])
    writer._root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): fields})
    writer.add_attachment("lines.csv", b"a;b\n1;2\n")
    buffer = io.BytesIO()
    writer.write(buffer)
    text = tool(put(buffer.getvalue(), "a.pdf"))
    for part in ("Claim", "Name: Jordan", "Town: Łódź", "Paid: checked", "Note: (empty)", "Remark: ask Bo first"):
        assert part in text
    assert "lines.csv:\na,b\n1,2" in text


def test_rows_of_cells_that_stand_far_apart(tool, put):
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    for row, (name, price) in enumerate([("Lamp", "19.90"), ("Desk", "149.00")]):
        pdf.text(20, 40 + 8 * row, name)
        pdf.text(150, 40 + 8 * row, price)
    assert tool(put(bytes(pdf.output()), "a.pdf")) == "Lamp 19.90\nDesk 149.00"


@pytest.mark.parametrize("order", ["painted", "placed"])
@pytest.mark.parametrize(("words", "number"), [("דוח שנתי", "2024"), ("سلام دنيا", "7"), ("שלום", "")])
def test_right_to_left(tool, put, order, words, number):
    pdf = FPDF()
    pdf.add_page()
    pdf.add_font("deja", fname=str(FONT))
    pdf.set_font("deja", size=20)
    if order == "painted":
        pdf.text(40, 40, f"{number} {words[::-1]}".strip())
    else:
        place = 120
        for sign in words:
            place -= pdf.get_string_width(sign)
            pdf.text(place, 40, sign)
    assert tool(put(bytes(pdf.output()), "a.pdf")).startswith(words)


HTML = (
    "<html><body><table><tr><th>item</th><th>count</th></tr><tr><td>Widget</td><td>120</td></tr></table></body></html>"
)
XML = """<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"
 xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet ss:Name="S"><Table><Row>
 <Cell><Data>item</Data></Cell><Cell><Data>count</Data></Cell></Row><Row><Cell><Data>Widget</Data></Cell><Cell><Data>120</Data></Cell></Row></Table>
 </Worksheet></Workbook>"""


@pytest.mark.parametrize("suffix", ["xls", "xlsx", "doc", "pdf"])
@pytest.mark.parametrize(("what", "content"), [("HTML", HTML), ("XML", XML), ("text", "item\tcount\nWidget\t120\n")])
def test_files_under_a_wrong_name(tool, put, suffix, what, content):
    text = tool(put(content.encode(), f"a.{suffix}"))
    assert "Widget" in text and "120" in text and f"holds {what}, not {suffix}" in text


@pytest.mark.parametrize("name", ["a.doc", "a.xlsx", "a.zip", "a"])
def test_a_word_file_under_another_name(tool, put, name):
    assert "INV-77" in tool(put(letter(), name))


@pytest.mark.parametrize("suffix", ["docx", "xlsx", "pptx"])
def test_passwords_are_said_when_a_file_is_attached(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000) + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(InputError, match="protected with a password"):
        File.from_path(path)


@pytest.mark.parametrize("name", ["a.odt", "a.ods"])
def test_passwords_of_opendocument(tool, put, name):
    kind = {"a.odt": "text", "a.ods": "spreadsheet"}[name]
    data = opendocument(kind, "", **{"META-INF/manifest.xml": "<manifest:encryption-data/>"})
    with pytest.raises(InputError, match="protected with a password"):
        tool(put(data, name))


@pytest.mark.parametrize("name", ["a.7z", "a.rar"])
def test_archives_that_are_not_read(tool, put, name):
    start = {"a.7z": b"7z\xbc\xaf\x27\x1c\0\4", "a.rar": b"Rar!\x1a\x07\1\0"}[name]
    with pytest.raises(InputError, match=f"{name[2:]} archive, which this tool cannot unpack"):
        tool(put(start + bytes(100), name))


@pytest.mark.parametrize("phase", [1, -1, 0, -0.9])
def test_no_phase_of_a_second_channel_silences_the_first(phase):
    sound = np.sin(np.arange(16000) / 9)
    both = mixed(np.stack([sound, phase * sound], axis=1))
    assert np.abs(both).max() > 0.4


@pytest.mark.parametrize(("suffix", "options"), [("wav", {"format": "RF64"}), ("wav", {}), ("flac", {}), ("aiff", {})])
def test_forms_of_sound_files(tool, put, tmp_path, suffix, options):
    soundfile.write(tmp_path / f"a.{suffix}", np.zeros((8000, 2)), 16000, **options)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    tagged = b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + data if suffix == "flac" else data
    (tmp_path / f"b.{suffix}").write_bytes(tagged)
    File.from_path(tmp_path / f"b.{suffix}")
    assert "No speech" in tool(put(tmp_path / f"b.{suffix}"))
