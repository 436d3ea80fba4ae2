"""What an agent is asked: a [`Task`] with its [`File`]s."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from .errors import InputError
from .media import check_kind, decode_image, is_picture_type, media_type_of
from .storage import BlobStore, from_record, require, sha256_of


MAX_FILE_BYTES = 512 * 2**20
"""Attachments above this size (bytes) are refused before they are read."""


def check_workspace_path(path: str) -> str:
    """Return `path` when it is a plain relative path such as `files/receipt.png`.

    Raises:
        InputError: when it is absolute, empty, has `..` parts, backslashes or control characters.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or any(ord(c) < 32 for c in path):
        raise InputError(
            f"{path!r} is not a path inside the workspace: use a relative path such as files/receipt.png."
        )
    return path


@dataclass(frozen=True)
class File:
    """One attachment or image, by its path in the workspace and the digest of its content.

    Args:
        path (`str`): path inside the workspace, for example `files/receipt.png`.
        media_type (`str`): for example `image/png`.
        sha256 (`str`): hexadecimal digest of the content.
        source (`Path` or `bytes`, *optional*): the content, or where it lies on this machine. Never serialized.
    """

    path: str
    media_type: str
    sha256: str
    source: Path | bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_path(cls, source: str | Path, path: str | None = None) -> File:
        """Describe a file on this machine, after checking that an agent can use it.

        Args:
            source (`str` or `Path`): the file.
            path (`str`, *optional*, defaults to `files/<name>`): its path in the workspace.

        Raises:
            InputError: when it is missing, a folder, empty, larger than `MAX_FILE_BYTES`, an image that cannot be
                decoded, or its content is not what its extension says.
        """
        source = Path(source)
        if not source.exists():
            raise InputError(f"There is no file {source}.")
        if not source.is_file():
            raise InputError(f"{source} is not a file: attach the files inside it one by one.")
        size = source.stat().st_size
        if size == 0:
            raise InputError(f"{source} is empty.")
        if size > MAX_FILE_BYTES:
            raise InputError(f"{source} has {size / 2**20:.0f} MiB; the limit is {MAX_FILE_BYTES // 2**20} MiB.")
        path = check_workspace_path(path or f"files/{source.name}")
        data = source.read_bytes()
        check_kind(data, PurePosixPath(path).name)
        return cls(path, media_type_of(path), sha256_of(data), source)

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> File:
        """Describe content that is in memory; it is not checked."""
        return cls(check_workspace_path(path), media_type_of(path), sha256_of(data), data)

    @property
    def is_image(self) -> bool:
        return is_picture_type(self.media_type)

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            InputError: when this record carries no bytes (it was read without its blobs).
        """
        if self.source is None:
            raise InputError(f"The bytes of {self.path} are not at hand: read the record together with its blobs.")
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def open_image(self) -> Image.Image:
        """The decoded picture, RGB."""
        return decode_image(self.read_bytes(), self.path)

    def stored_in(self, blobs: BlobStore) -> File:
        """The same file with its bytes in `blobs`."""
        return File(self.path, self.media_type, self.sha256, blobs.path(blobs.put(self.read_bytes())))

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "media_type": self.media_type, "sha256": self.sha256}

    @classmethod
    def from_dict(cls, record: dict[str, Any], blobs: BlobStore | None = None) -> File:
        """Read a file record; its bytes are looked up in `blobs` where they are given."""
        path, media_type, sha256 = (require(record, name, str, "file") for name in ("path", "media_type", "sha256"))
        source = blobs.path(sha256) if blobs else None
        return cls(check_workspace_path(path), media_type, sha256, source)


@dataclass(frozen=True)
class Task:
    """A question with its files.

    Args:
        id (`str`): stable identifier, by default a hash of query and files (see [`Task.create`]).
        query (`str`): the user's words.
        files (`tuple[File, ...]`): attachments, in the order in which they are named to the controller.
        ground_truth (`str`, *optional*): the known answer.
        tools (`tuple[str, ...]`): tools that a solution is expected to use, for tool accuracy.
        domain (`str`, *optional*): one of the paper's domains, for statistics.
        origin (`dict`): where the task comes from: JSON-safe values such as scenario family and seed.
    """

    id: str
    query: str
    files: tuple[File, ...] = ()
    ground_truth: str | None = None
    tools: tuple[str, ...] = ()
    domain: str | None = None
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.query.strip():
            raise InputError("A task needs a question: the query is empty.")
        paths = [PurePosixPath(file.path) for file in self.files]
        if len(set(paths)) != len(paths):
            raise InputError("Two attachments have the same path in the workspace: rename one of them.")

    @classmethod
    def create(cls, query: str, files: tuple[File, ...] | list[File] = (), **fields: Any) -> Task:
        """A task whose id is derived from its query and the content of its files."""
        named = "\0".join([query, *(f"{file.path}\0{file.sha256}" for file in files)])
        digest = sha256_of(named.encode(errors="surrogatepass"))
        return cls(id=digest[:16], query=query, files=tuple(files), **fields)

    @property
    def images(self) -> tuple[File, ...]:
        return tuple(file for file in self.files if file.is_image)

    def text(self) -> str:
        """The words of the first user turn: the query, then the workspace paths of the attachments."""
        if not self.files:
            return self.query
        return f"{self.query}\nFiles: {', '.join(file.path for file in self.files)}"

    def to_dict(self) -> dict[str, Any]:
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("files", "tools", "origin")}
        return {
            **record,
            "files": [file.to_dict() for file in self.files],
            "tools": list(self.tools),
            "origin": dict(self.origin),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any], blobs: BlobStore | None = None) -> Task:
        """Read a task record.

        Raises:
            InputError: naming the field that is missing, unknown or of a wrong type.
        """
        return from_record(cls, record, "task", files=lambda file: File.from_dict(file, blobs))
