"""What an agent is asked: a [`Task`] with its [`File`]s."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InputError
from .storage import BlobStore, sha256_of


MAX_FILE_BYTES = 512 * 2**20
"""Attachments above this size (bytes) are refused before they are read."""

# The first bytes that the container formats below must have; images are opened instead.
_SIGNATURES = {
    ".pdf": b"%PDF",
    ".docx": b"PK",
    ".xlsx": b"PK",
    ".pptx": b"PK",
    ".zip": b"PK",
    ".epub": b"PK",
    ".flac": b"fLaC",
    ".wav": b"RIFF",
}
_MEDIA_TYPES = {".jsonl": "application/jsonl", ".md": "text/markdown", ".webp": "image/webp", ".flac": "audio/flac"}


def media_type_of(name: str) -> str:
    """Media type by file name; `application/octet-stream` when the extension says nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


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
        source (`Path` or `bytes`, *optional*): the content, or where it lies on this machine. Never serialised.
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
        media_type = media_type_of(path)
        _check_content(source.name, media_type, data)
        return cls(path=path, media_type=media_type, sha256=sha256_of(data), source=source)

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> File:
        """Describe content that is in memory; it is not checked."""
        return cls(
            path=check_workspace_path(path), media_type=media_type_of(path), sha256=sha256_of(data), source=data
        )

    @property
    def is_image(self) -> bool:
        return self.media_type.startswith("image/") and self.media_type != "image/svg+xml"

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


def decode_image(data: bytes, name: str, max_pixels: int | None = None) -> Image.Image:
    """Decode picture bytes, see [`to_rgb`].

    Args:
        data (`bytes`): content of a file.
        name (`str`): its name, for messages.
        max_pixels (`int`, *optional*): pixels above which it is refused before it is decoded; Pillow's own limit by
            default.

    Raises:
        InputError: when Pillow cannot decode them.
    """
    Image.init()
    # Pillow hands PostScript to Ghostscript, which runs it as a program.
    formats = [name for name in Image.ID if name not in ("EPS", "WMF")]
    try:
        image = Image.open(BytesIO(data), formats=formats)
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise InputError(f"{name} has {image.width} x {image.height} pixels: make it smaller.")
        return to_rgb(image)
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{name} is not a readable image ({type(error).__name__}): save it again as PNG or JPEG."
        ) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture as people see it: RGB, upright as the camera noted it, on white where it is transparent; of an
    animation the first frame."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        # Scans have 16 bits or fractions, which Pillow would cut off at 255.
        highest = image.getextrema()[1]
        factor = 1 / 257 if highest > 255 else 255 if image.mode == "F" and highest <= 1 else 1
        image = image.convert("F").point(lambda value: value * factor + 0).convert("L")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return image.convert("RGB")


def _check_content(name: str, media_type: str, data: bytes) -> None:
    """Refuse content that is not what the extension says."""
    suffix = PurePosixPath(name).suffix.lower()
    if media_type.startswith("image/") and media_type != "image/svg+xml":
        decode_image(data, name)
        return
    signature = _SIGNATURES.get(suffix)
    if signature and not data.startswith(signature):
        raise InputError(f"{name} does not hold what its extension {suffix} says: give it the right extension.")
    if not signature:
        try:
            kind = Image.open(BytesIO(data[: 2**16])).format
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return
        raise InputError(f"{name} holds a {kind} image: give it the extension of its content.")


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
        reject_unknown(record, {f.name for f in fields(cls)}, "task")
        tools = require(record, "tools", list, "task", default=[])
        if not all(isinstance(tool, str) for tool in tools):
            raise InputError("Field `tools` of the task must be a list of str.")
        return cls(
            id=require(record, "id", str, "task"),
            query=require(record, "query", str, "task"),
            files=tuple(File.from_dict(file, blobs) for file in require(record, "files", list, "task")),
            ground_truth=require(record, "ground_truth", (str, type(None)), "task", default=None),
            tools=tuple(tools),
            domain=require(record, "domain", (str, type(None)), "task", default=None),
            origin=require(record, "origin", dict, "task", default={}),
        )


_MISSING = object()


def require(record: Any, name: str, types: type | tuple[type, ...], owner: str, default: Any = _MISSING) -> Any:
    """Take a field of a JSON record.

    Raises:
        InputError: when the record is no object, or the field is missing (and has no default) or has another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"A {owner} must be a JSON object, not {type(record).__name__}.")
    value = record.get(name, default)
    if value is _MISSING:
        raise InputError(f"The {owner} has no field `{name}`.")
    types = types if isinstance(types, tuple) else (types,)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise InputError(f"Field `{name}` of the {owner} must be {wanted}, not {type(value).__name__}.")
    return value


def reject_unknown(record: Any, known: set[str], owner: str) -> None:
    """Refuse a record with fields that this version does not know."""
    if not isinstance(record, dict):
        raise InputError(f"A {owner} must be a JSON object, not {type(record).__name__}.")
    unknown = sorted(set(record) - known)
    if unknown:
        raise InputError(f"The {owner} has an unknown field `{unknown[0]}`; known are: {', '.join(sorted(known))}.")
