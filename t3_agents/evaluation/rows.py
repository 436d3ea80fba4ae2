"""Rows of a benchmark's files: all that cannot be used are named at once, before anything runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import InputError
from ..hub.wheel_weights import cache_dir
from ..media import decode_image, media_type_of
from ..storage import sha256_of
from ..task import MAX_FILE_BYTES, File, Task, check_workspace_path


MAX_ARCHIVE_BYTES = 8 * 2**30
"""Unpacked size above which an archive is refused."""


@dataclass
class LoadedTasks:
    """Tasks of a benchmark and where they come from.

    Args:
        tasks (`list[Task]`): rows that can be used.
        name (`str`): Hub id, or name of the folder.
        split (`str`): the split.
        revision (`str`, *optional*): commit of a Hub dataset.
        bad (`dict[str, str]`): why other rows cannot be used, by id.
    """

    tasks: list[Task]
    name: str
    split: str
    revision: str | None = None
    bad: dict[str, str] = field(default_factory=dict)

    def refuse_bad(self) -> None:
        """Stop at rows that cannot be used.

        Raises:
            InputError: naming every one of them.
        """
        if self.bad:
            rows = "\n".join(f"  {row}: {reason}" for row, reason in self.bad.items())
            raise InputError(
                f"{len(self.bad)} rows of {self.name} cannot be used; correct them, or leave them out with "
                f"`--skip-bad-rows true`:\n{rows}"
            )


def attachment(folder: Path, name: str, path: str) -> File:
    """A file of a benchmark, checked.

    Args:
        folder (`Path`): the benchmark's folder.
        name (`str`): where the file is in it, as the row has it.
        path (`str`): its path in the workspace.

    Raises:
        InputError: when the name leads out of the folder, or the file is missing, empty, too large or no picture
            although its name says so.
    """
    source = folder / check_workspace_path(name)
    if not source.is_file():
        raise InputError(f"there is no file {name}")
    size = source.stat().st_size
    if size == 0 or size > MAX_FILE_BYTES:
        raise InputError(f"the file {name} has {size} bytes")
    data = source.read_bytes()
    file = File(check_workspace_path(path), media_type_of(path), sha256_of(data), source)
    if file.is_image:
        decode_image(data, name)
    return file


def unpack(archive: Path) -> Path:
    """Unpack a zip into the cache, once, and return the folder.

    Raises:
        InputError: when it is no zip, or a member would be written outside the folder, is a link or is too large.
    """
    digest = hashlib.sha256()
    with archive.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    target = cache_dir() / "benchmarks" / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    try:
        with zipfile.ZipFile(archive) as packed:
            _check_members(archive, packed)
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpack-"))
            try:
                packed.extractall(scratch)
                os.replace(scratch, target)
            except OSError:
                if not target.is_dir():  # another process may have been faster
                    raise
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a readable zip archive ({error}).") from None
    return target


def _check_members(archive: Path, packed: zipfile.ZipFile) -> None:
    for member in packed.infolist():
        parts = PurePosixPath(member.filename).parts
        if member.filename.startswith("/") or ".." in parts or "\\" in member.filename or ":" in member.filename:
            raise InputError(f"{archive} was not unpacked: its member {member.filename!r} leads out of the folder.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"{archive} was not unpacked: its member {member.filename!r} is a link.")
    if sum(member.file_size for member in packed.infolist()) > MAX_ARCHIVE_BYTES:
        raise InputError(f"{archive} was not unpacked: it would need more than {MAX_ARCHIVE_BYTES >> 30} GiB.")
