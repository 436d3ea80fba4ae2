"""Archives and mail: what they hold, and the text of the files inside them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_binary_file, policy
from pathlib import PurePosixPath

from ...errors import T3Error
from .documents import html_lines
from .records import UNPACKED_BYTES, Job, Line, Reader, Record, reason_of


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
            yield Line(f"{member.filename} {member.file_size} bytes{locked}")
        if len(members) > _MAX_LISTED:
            yield Line(f"[{len(members) - _MAX_LISTED} more files]")
        unpacked = sum(member.file_size for member in members)
        if unpacked > UNPACKED_BYTES:
            yield Line(f"[not unpacked: the files have {unpacked / 2**20:,.0f} MB together]")
            return
        if job.depth >= _MAX_DEPTH:
            yield Line("[not unpacked: an archive in an archive in an archive]")
            return
        for member in members[:_MAX_READ]:
            if member.flag_bits & 1 or not member.file_size:
                continue
            if member.file_size > _MAX_MEMBER:
                yield Line(f"[{member.filename} is too large to be unpacked]")
                continue
            try:
                data = archive.read(member)
            except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
                yield Line(f"[{member.filename} cannot be unpacked: {reason_of(error)}]")
                continue
            yield from _read_inside(job, member.filename, data, read)
        if len(members) > _MAX_READ:
            yield Line(f"[only the first {_MAX_READ} files were read]")


def read_mail(job: Job, read: Reader) -> Iterator[Record]:
    """Headers and body of an e-mail, its attachments' names, then what `read` gives of each."""
    with open(job.path, "rb") as stream:
        mail = message_from_binary_file(stream, policy=policy.default)
    for name in ("From", "To", "Cc", "Date", "Subject"):
        if mail[name]:
            yield Line(f"{name}: {mail[name]}")
    body = mail.get_body(("plain", "html"))
    if body is not None:
        content = body.get_content()
        lines = html_lines(content) if body.get_content_type() == "text/html" else map(Line, content.splitlines())
        yield from lines
    attachments = list(mail.iter_attachments())
    for part in attachments:
        yield Line(f"Attachment: {part.get_filename() or 'without name'} ({part.get_content_type()})")
    for part in attachments:
        name = part.get_filename() or f"attachment.{part.get_content_subtype()}"
        # A mail that is attached to a mail is a message, everything else has bytes.
        data = part.get_payload(decode=True)
        if data is None:
            data = b"".join(inner.as_bytes() for inner in part.iter_parts())
        if data and job.depth < _MAX_DEPTH:
            yield from _read_inside(job, name, data, read)


def _read_inside(job: Job, name: str, data: bytes, read: Reader) -> Iterator[Record]:
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
