"""Copies of the pictures and files of exported rows."""

from __future__ import annotations

import mimetypes
from pathlib import Path, PurePosixPath

from t3_agents.errors import InputError
from t3_agents.storage import sha256_of, write_atomic
from t3_agents.task import File, check_workspace_path


class FileCopies:
    """Files beside the rows of an export: pictures in `images/`, others in `files/`, by their content.

    Args:
        folder (`Path`): folder of the export.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._digests: dict[str, str] = {}

    def add(self, file: File, place: str | None = None) -> str:
        """Copy a file and return its path in the export.

        Args:
            file ([`~t3_agents.task.File`]): the file, with its bytes.
            place (`str`, *optional*): where it has to be; by default a name made of its digest.

        Raises:
            InputError: when the place leads out of the export or holds another file, or the bytes are not at hand or
                damaged.
        """
        place = check_workspace_path(place or _place_of(file))
        if self._digests.setdefault(place, file.sha256) != file.sha256:
            raise InputError(f"Another row has another file at `{place}`.")
        target = self.folder / place
        if not target.exists():
            try:
                data = file.read_bytes()
            except FileNotFoundError:
                raise InputError(f"The bytes of `{file.path}` are not in the run's blobs.") from None
            if sha256_of(data) != file.sha256:
                raise InputError(f"The bytes of `{file.path}` are damaged.")
            write_atomic(target, data)
        return place


def _place_of(file: File) -> str:
    suffix = PurePosixPath(file.path).suffix.lower() or mimetypes.guess_extension(file.media_type) or ""
    return f"{'images' if file.is_image else 'files'}/{file.sha256[:32]}{suffix}"
