"""Writers of damaged and hostile files, one function for each; each writes into a folder and names its file."""

from __future__ import annotations

import io
import os
import random
import struct
import wave
import zipfile
import zlib
from pathlib import Path

from fpdf import FPDF

from tests.helpers import DATA, noise


FILES = DATA / "made_by_others"
MEGABYTE = 2**20
ENTITIES = '<!DOCTYPE l [<!ENTITY e0 "ha">' + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
OUTSIDE = '<!DOCTYPE l [<!ENTITY out SYSTEM "file:///etc/passwd">'


def truncated(name: str, share: float = 0.6):
    """The start of a file of the test data."""

    def write(folder: Path) -> str:
        data = (FILES / name).read_bytes()
        (folder / f"truncated_{name}").write_bytes(data[: int(len(data) * share)])
        return f"truncated_{name}"

    return write


def locked(name: str):
    """A file with a password."""

    def write(folder: Path) -> str:
        (folder / name).write_bytes((FILES / "locked" / name).read_bytes())
        return name

    return write


def content(name: str, data: bytes):
    """A file with the content given."""

    def write(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return name

    return write


def changed(name: str, part: str, change, target: str):
    """A zipped document of the test data with one part changed by a function of its bytes."""

    def write(folder: Path) -> str:
        with (
            zipfile.ZipFile(FILES / name) as good,
            zipfile.ZipFile(folder / target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bad,
        ):
            for member in good.namelist():
                data = good.read(member)
                bad.writestr(member, change(data) if member == part else data)
        return target

    return write


def replaced(old: bytes, new: bytes):
    def change(data: bytes) -> bytes:
        assert old in data, f"{old!r} is not in the file"
        return data.replace(old, new, 1)

    return change


def with_entity(name: str, part: str, start: bytes, word: bytes, kind: str):
    """A document with a word replaced by an entity that grows (`laughs`), or that is a file of the machine."""
    declared, entity = {"laughs": (ENTITIES, b"&e9;"), "outside": (OUTSIDE, b"&out;")}[kind]

    def change(data: bytes) -> bytes:
        return replaced(word, entity)(replaced(start, declared.encode() + b"]>" + start)(data))

    return changed(name, part, change, f"{kind}{Path(name).suffix}")


def repeated(name: str, head: bytes, block: bytes, times: int):
    """A long file: `head`, then a block again and again."""

    def write(folder: Path) -> str:
        with (folder / name).open("wb") as out:
            out.write(head)
            for _ in range(times):
                out.write(block)
        return name

    return write


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def pdf_with_a_broken_picture(folder: Path) -> str:
    image = noise(0, (400, 400), 80).convert("RGB")
    pdf = FPDF()
    pdf.set_compression(False)
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.cell(text="A picture follows.")
    pdf.image(image, w=100)
    data = bytearray(pdf.output())
    start = data.index(b"/Subtype /Image")
    start = data.index(b"stream", start) + 200
    data[start : start + 20_000] = random.Random(0).randbytes(20_000)
    (folder / "picture.pdf").write_bytes(data)
    return "picture.pdf"


def pdf_with_a_million_pages(folder: Path) -> str:
    data = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    data += b"2 0 obj<</Type/Pages/Count 1000000/Kids[" + b"3 0 R " * 1_000_000 + b"]>>endobj\n"
    data += b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    (folder / "pages.pdf").write_bytes(data)
    return "pages.pdf"


def pdf_that_refers_to_itself(folder: Path) -> str:
    """The page tree holds itself, and the table of objects says that its predecessor is itself."""
    head = b"%PDF-1.4\n"
    catalog = b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    pages = b"2 0 obj<</Type/Pages/Count 9/Kids[2 0 R 2 0 R]/Parent 2 0 R>>endobj\n"
    place = len(head + catalog + pages)
    table = b"xref\n0 3\n0000000000 65535 f \n%010d 00000 n \n%010d 00000 n \n" % (len(head), len(head + catalog))
    tail = b"trailer<</Size 3/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF" % (place, place)
    (folder / "loop.pdf").write_bytes(head + catalog + pages + table + tail)
    return "loop.pdf"


def flat_zip_bomb(folder: Path) -> str:
    """One gigabyte in one megabyte."""
    with (
        zipfile.ZipFile(folder / "flat.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros.txt", "w", force_zip64=True) as stream,
    ):
        for _ in range(1024):
            stream.write(bytes(MEGABYTE))
    return "flat.zip"


def lying_zip_bomb(folder: Path) -> str:
    """A member that says it has ten bytes and has a hundred megabytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(bytes(100 * MEGABYTE)) + deflate.flush()
    name = b"small.txt"
    fixed = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(packed), 10, len(name), 0)
    local = b"PK\3\4" + fixed + name + packed
    central = b"PK\1\2" + struct.pack("<H", 20) + fixed + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    (folder / "lying.zip").write_bytes(local + central + end)
    return "lying.zip"


def nested_zip_bomb(folder: Path) -> str:
    """Ten archives in ten archives in ten archives, each with ten files of ten megabytes."""
    files = {f"{n}.txt": bytes(10 * MEGABYTE) for n in range(10)}
    for _ in range(4):
        data = zipped(files)
        files = {f"{n}.zip": data for n in range(10)}
    (folder / "nested.zip").write_bytes(data)
    return "nested.zip"


def endless_zip(folder: Path) -> str:
    """An archive in an archive, five hundred times over, as in one that holds itself."""
    data, name = b"the end", "end.txt"
    for _ in range(500):
        data, name = zipped({name: data}), "again.zip"
    (folder / "endless.zip").write_bytes(data)
    return "endless.zip"


def zip_with_a_million_names(folder: Path) -> str:
    """A directory of a million entries that all are the same ten bytes."""
    fixed = struct.pack("<HHHHHIII", 20, 0, 0, 0, 0, 0, 10, 10)
    local = b"PK\3\4" + fixed + struct.pack("<HH", 1, 0) + b"a" + b"0123456789"
    entry = b"PK\1\2" + struct.pack("<H", 20) + fixed + struct.pack("<HHHHHII", 7, 0, 0, 0, 0, 0, 0)
    entries = b"".join(entry + b"%07d" % n for n in range(1_000_000))
    size, place = len(entries), len(local)
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1_000_000, 1_000_000, size, place)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, place + size, 1)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    (folder / "names.zip").write_bytes(local + entries + end64 + locator + end)
    return "names.zip"


def zip_that_leads_out(folder: Path) -> str:
    with zipfile.ZipFile(folder / "out.zip", "w") as archive:
        archive.writestr("../../evil.txt", "I was here")
        archive.writestr("/tmp/evil.txt", "and here")
    return "out.zip"


def zip_with_a_huge_picture(folder: Path) -> str:
    """A picture of 60,000 x 60,000 pixels in 430 kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(bytes(7501 * 60_000), 9)) + chunk(b"IEND", b"")
    with zipfile.ZipFile(folder / "picture.zip", "w") as archive:
        archive.writestr("huge.png", png)
        archive.writestr("note.txt", "a picture")
    return "picture.zip"


def sparse_csv(folder: Path) -> str:
    with (folder / "sparse.csv").open("wb") as out:
        out.write(b"name,qty\nLamp,2\n")
        out.truncate(500 * MEGABYTE)
    return "sparse.csv"


csv_of_one_line = repeated("line.csv", b"", b"word," * 1024, 12 * 1024)
csv_of_many_lines = repeated("lines.csv", b"name,qty\n", b"Lamp,2\n" * 1024, 8 * 1024)
csv_of_one_field = repeated("field.csv", b'name,note\nLamp,"', b"a word " * 1024, 8 * 1024)
csv_of_500_megabytes = repeated("big.csv", b"name,qty\n", b"Lamp,2\n" * (MEGABYTE // 7), 501)


def wide_sheet(data: bytes) -> bytes:
    """A billion cells, by what the sheet says of itself and by where its last cell is."""
    start = data.index(b"<sheetData>")
    last = b'<row r="1048576"><c r="XFD1048576" t="n"><v>1</v></c></row>'
    end = data.index(b"</sheetData>")
    return b'%s<dimension ref="A1:XFD1048576"/>%s%s%s' % (data[:start], data[start:end], last, data[end:])


def many_cells(data: bytes) -> bytes:
    """Three hundred megabytes of rows."""
    start = data.index(b"<sheetData>") + len(b"<sheetData>")
    return data[:start] + b'<row><c t="n"><v>7</v></c></row>' * (10 * MEGABYTE) + data[data.index(b"</sheetData>") :]


def many_strings(data: bytes) -> bytes:
    start = data.index(b"<si>")
    return data[:start] + b"<si><t>a word or two of some length</t></si>" * (8 * MEGABYTE) + data[start:]


def wav_that_lies(folder: Path) -> str:
    """A second of silence that says it has four gigabytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(bytes(32000))
    data = bytearray(buffer.getvalue())
    data[4:8] = data[40:44] = struct.pack("<I", 2**32 - 9)
    (folder / "long.wav").write_bytes(data)
    return "long.wav"


def mail_of_many_parts(folder: Path) -> str:
    lines = ["From: a@example.org", "Subject: deep"]
    for n in range(100_000):
        lines += [f'Content-Type: multipart/mixed; boundary="b{n}"', "", f"--b{n}"]
    (folder / "deep.eml").write_text("\n".join([*lines, "Content-Type: text/plain", "", "at the bottom"]))
    return "deep.eml"


def link_out(folder: Path) -> str:
    (folder / "link.txt").symlink_to("/etc/passwd")
    return "link.txt"


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.txt")
    return "pipe.txt"


def device(folder: Path) -> str:
    (folder / "zero.txt").symlink_to("/dev/zero")
    return "zero.txt"


def directory(folder: Path) -> str:
    (folder / "a.pdf").mkdir()
    (folder / "a.pdf" / "inside.txt").write_text("x")
    return "a.pdf"
