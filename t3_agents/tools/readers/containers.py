"""Archives and mail: what they hold, and the text of the files inside them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from pathlib import Path, PurePosixPath

from ...errors import T3Error
from .documents import html_lines
from .records import UNPACKED_BYTES, Job, Line, Reader, Record, reason_of
from .texts import decode, split_lines


_MAX_DEPTH = 2
_MAX_MEMBER = 32 * 2**20
_MAX_LISTED = 1000
_MAX_READ = 100


def read_archive(job: Job, read: Reader) -> Iterator[Record]:
    """The names and sizes of an archive's files, then what `read` gives of each."""
    with zipfile.ZipFile(job.path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members[:_MAX_LISTED]:
            locked = " (protected with a password)" if member.flag_bits & 1 else ""
            yield Line(f"{_member_name(member)} {member.file_size} bytes{locked}")
        if len(members) > _MAX_LISTED:
            yield Line(f"[{len(members) - _MAX_LISTED} more files]")
        unpacked = sum(member.file_size for member in members)
        if unpacked > UNPACKED_BYTES:
            yield Line(f"[not unpacked: the files have {unpacked / 2**20:,.0f} MB together]", is_note=True)
            return
        if job.depth >= _MAX_DEPTH:
            yield Line("[not unpacked: an archive in an archive in an archive]", is_note=True)
            return
        for member in members[:_MAX_READ]:
            if member.flag_bits & 1 or not member.file_size:
                continue
            name = _member_name(member)
            if member.file_size > _MAX_MEMBER:
                yield Line(f"[{name} is too large to be unpacked]", is_note=True)
                continue
            try:
                data = archive.read(member)
            except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
                yield Line(f"[{name} cannot be unpacked: {reason_of(error)}]", is_note=True)
                continue
            yield from read_inside_of(job, name, data, read)
        if len(members) > _MAX_READ:
            yield Line(f"[only the first {_MAX_READ} files were read]", is_note=True)
        locked = sum(member.flag_bits & 1 for member in members)
        if locked:
            yield Line(f"[{locked} files were not read: they are protected with a password]", is_note=True)


def _member_name(member: zipfile.ZipInfo) -> str:
    """The name of a member: without the mark for UTF-8 it is in the character set of who packed it."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    return decode(member.filename.encode("cp437"))[0]


def read_mail(job: Job, read: Reader) -> Iterator[Record]:
    """Headers and body of an e-mail, its attachments' names, then what `read` gives of each."""
    # What stands before the first header is no part of a mail.
    mail = message_from_bytes(Path(job.path).read_bytes().lstrip(b"\xef\xbb\xbf\r\n\t "))
    for name in ("From", "To", "Cc", "Date", "Subject"):
        if mail[name]:
            yield Line(f"{name}: {_header(mail[name])}")
    attachments = []
    for part in _parts(mail):
        name = part.get_filename()
        if part.get_content_maintype() != "text" or name or part.get_content_disposition() == "attachment":
            # A mail that is attached to a mail is a message, everything else has bytes.
            data = part.get_payload(decode=True)
            if data is None:
                data = b"".join(inner.as_bytes() for inner in part.get_payload())
            suffix = "eml" if part.get_content_type() == "message/rfc822" else part.get_content_subtype()
            attachments.append((_header(name) if name else "", part.get_content_type(), suffix, data))
            continue
        text, note = decode(part.get_payload(decode=True), part.get_content_charset() or None)
        yield from html_lines(text) if part.get_content_type() == "text/html" else map(Line, split_lines(text))
        if note:
            yield Line(f"[{job.name}: {note}]", is_note=True)
    for name, media_type, *_ in attachments:
        yield Line(f"Attachment: {name or 'without name'} ({media_type})")
    for name, _, suffix, data in attachments:
        if data and job.depth < _MAX_DEPTH:
            yield from read_inside_of(job, name or f"attachment.{suffix}", data, read)
        elif data:
            yield Line(f"[{name or 'attachment'} was not read: it lies too deep in other files]", is_note=True)


def _parts(part: Message) -> Iterator[Message]:
    """The leaves of a mail; of the forms of one text, the plain one, or else HTML."""
    if part.get_content_maintype() != "multipart" or not part.is_multipart():
        yield part
        return
    inner = part.get_payload()
    if part.get_content_subtype() == "alternative":
        forms = {form.get_content_type(): form for form in inner}
        if forms.get("text/plain", part).get_payload(decode=True):
            inner = [form for form in inner if form is forms["text/plain"] or not _is_text(form)]
    for each in inner:
        yield from _parts(each)


def _is_text(part: Message) -> bool:
    """Whether a part shows a text: itself, or with the pictures in it."""
    return part.get_content_type() in ("text/plain", "text/html", "multipart/related")


def _header(value: str) -> str:
    """A header in words: parts in other character sets are decoded (RFC 2047)."""
    words = [(word, None) if isinstance(word, str) else (word, charset) for word, charset in decode_header(value)]
    texts = (word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word, _ in words)
    decoded = "".join(decode(text, charset or "utf-8")[0] for text, (_, charset) in zip(texts, words, strict=True))
    return " ".join(decoded.split())


def read_inside_of(job: Job, name: str, data: bytes, read: Reader) -> Iterator[Record]:
    """What `read` gives of a file that is inside another, under its name."""
    # Only the extension of a name that somebody else chose is used.
    suffix = "".join(c for c in PurePosixPath(name).suffix if c.isalnum() or c == ".")[:10]
    path = job.new_file(suffix)
    path.write_bytes(data)
    title = f"{name}:"
    try:
        yield Line(title, is_header=True)
        for record in read(replace(job, path=str(path), name=name, depth=job.depth + 1)):
            if isinstance(record, Line) and not record.is_header:
                record = record._replace(header=f"{title}\n{record.header}" if record.header else title)
            yield record
    except T3Error as error:
        yield Line(f"[{error}]", title)
    # As in the worker: a damaged member must not hide the others.
    except Exception as error:
        yield Line(f"[{name} cannot be read: {reason_of(error)}]", title)
    finally:
        path.unlink()
