"""Python that the scripted teacher writes to make files: good, wrong and hostile."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


WRONG_PROGRAMS = (
    "import openpyxl\nbook = openpyxl.Workbok()\nbook.save('{name}')",
    "rows = [('a', 1), ('b', 2)]\nfor row in rows:\n    print(row)",
    "with open('output/{name}', 'w') as out:\n    out.write('totals')",
    "open('{name}', 'w').close()",
    "data = read_source('{name}')\nwrite(data)",
    "with open('{name}', 'wb') as out:\n    out.write(bytes(range(256)) * 8)",
)
HOSTILE_PROGRAMS = (
    "import os\nos.symlink('/etc/passwd', '{name}')",
    "import socket\nsocket.create_connection(('10.0.0.1', 80))\nopen('{name}', 'w').write('done')",
    "import os, shutil\nshutil.rmtree('/usr', ignore_errors=True)\nos.kill(1, 9)\nraise SystemExit",
    "import os\nos.mkfifo('{name}')",
    "block = b'x' * 2**20\nwith open('{name}', 'wb') as out:\n    for _ in range(10**4):\n        out.write(block)",
    "rows = ['x']\nwhile True:\n    rows += rows",
)

_TABLE = """heading = {heading!r}
columns = {columns!r}
rows = {rows!r}
"""
_PROGRAMS = {
    "csv": """import csv
with open({name!r}, "w", newline="") as out:
    csv.writer(out).writerows([columns, *rows])
""",
    "xlsx": """from openpyxl import Workbook
book = Workbook()
sheet = book.active
sheet.title = heading[:30]
sheet.append(columns)
for name, month, value in rows:
    sheet.append([name, month, int(value)])
book.save({name!r})
""",
    "docx": """from docx import Document
document = Document()
document.add_heading(heading)
document.add_paragraph(", ".join(columns))
for row in rows:
    document.add_paragraph(", ".join(row))
document.save({name!r})
""",
    "pdf": """from fpdf import FPDF
pdf = FPDF()
pdf.add_page()
pdf.set_font("helvetica", size=12)
for line in [heading, ", ".join(columns), *(", ".join(row) for row in rows)]:
    pdf.cell(0, 8, line, new_x="LMARGIN", new_y="NEXT")
pdf.output({name!r})
""",
    "pptx": """from pptx import Presentation
show = Presentation()
for start in range(0, len(rows), 6):
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = heading
    slide.placeholders[1].text = "\\n".join(", ".join(row) for row in rows[start : start + 6])
show.save({name!r})
""",
    "json": """import json
records = [dict(zip(columns, row)) for row in rows]
with open({name!r}, "w") as out:
    json.dump({{"title": heading, "rows": records}}, out, indent=1)
""",
    "html": """cells = "\\n".join("<p>" + ", ".join(row) + "</p>" for row in rows)
with open({name!r}, "w") as out:
    out.write(f"<html><body><h1>{{heading}}</h1>\\n{{cells}}</body></html>")
""",
    "md": """with open({name!r}, "w") as out:
    out.write(f"# {{heading}}\\n\\n")
    for row in rows:
        out.write("- " + ", ".join(row) + "\\n")
""",
    "txt": """with open({name!r}, "w") as out:
    out.write(heading + "\\n" + "\\n".join(", ".join(row) for row in rows) + "\\n")
""",
    "xml": """import xml.etree.ElementTree as ET
root = ET.Element("table", title=heading)
for name, month, value in rows:
    ET.SubElement(root, "row", name=name, month=month).text = value
ET.ElementTree(root).write({name!r}, encoding="utf-8")
""",
}


def file_program(name: str, content: str) -> str:
    """A program that makes a table of the scripted plans as a file of the kind that its name says."""
    heading, columns, rows = re.fullmatch(r"Heading: (.*?)\. Columns: (.*?)\. Rows: (.*)", content).groups()
    table = _TABLE.format(
        heading=heading, columns=columns.split(", "), rows=[row.split(" | ") for row in rows.split("; ")]
    )
    return table + _PROGRAMS[PurePosixPath(name).suffix[1:]].format(name=name)
