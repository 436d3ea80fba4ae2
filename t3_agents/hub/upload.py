"""Pushing a folder to a repository of the Hub: what would travel, then one commit that holds all of it.

`HfApi.upload_folder` splits a large folder into several commits, so an upload that is cut leaves a repo which loads
and is wrong. Here large files go first and one commit names them all: a reader sees the old state or the new one. A
second try sends only what is missing, since the Hub keeps large files by their digest.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..errors import InputError
from ..redaction import RULES_FILE, Redactor
from ..storage import sha256_of_file
from .repos import hub_errors


if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset", "space"]
Result = TypeVar("Result")
_ATTEMPTS = 3
_WAITS = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Change:
    """One file of a push.

    Args:
        state (`str`): `new`, `changed`, `same` or `deleted`.
        path (`str`): in the repo.
        size (`int`): bytes that it has; a file that is `same` or `deleted` does not travel.
    """

    state: Literal["new", "changed", "same", "deleted"]
    path: str
    size: int


@dataclass
class Push:
    """A folder on its way to a repo.

    Args:
        folder (`Path`): what is pushed; all of its files but hidden ones, `.eval_results` excepted.
        repo_id (`str`): `user/name`.
        repo_type (`str`, *optional*, defaults to `"model"`): `model`, `dataset` or `space`.
        marker (`str`, *optional*): a file of every repo of this sort. A repo that holds files and not this one is
            somebody's other work and is left alone.
        kept (`set[str]`, *optional*): files of the repo that stay although they are not in the folder.
        owned (`list[str]`, *optional*): patterns of what an earlier push may have left. A file of the repo that
            matches and is not in the folder is deleted in the same commit; others stay.
        private (`bool`, *optional*): visibility of a new repo.
        revision (`str`, *optional*): branch, made when missing.
        create_pr (`bool`, *optional*, defaults to `False`): propose the commit instead.
        message (`str`, *optional*, defaults to `"Upload"`): of the commit.
        token (`str` or `bool`, *optional*): as in `huggingface_hub`.
        space_sdk (`str`, *optional*): of a new Space.
    """

    folder: Path
    repo_id: str
    repo_type: RepoType = "model"
    marker: str | None = None
    owned: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    message: str = "Upload"
    token: str | bool | None = None
    space_sdk: str | None = None

    def __post_init__(self) -> None:
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        self.folder = Path(self.folder)
        try:
            validate_repo_id(self.repo_id)
        except HFValidationError:
            valid = False
        else:
            valid = "/" in self.repo_id
        if not valid:
            raise InputError(
                f"`{self.repo_id}` is not a name of a Hub repo: use `user/name` with letters, digits, `-`, `_`, `.`."
            )
        if self.create_pr and self.revision:
            raise InputError("A pull request is made against the main branch: give --create-pr or --revision.")
        self.head: str | None = None
        self._exists = False

    def plan(self) -> list[Change]:
        """What a push would do now, by path; nothing is written to the Hub.

        Raises:
            InputError: when the Hub cannot be asked, or the repo is of another sort.
        """
        remote = self.remote()
        changes = []
        for path, file in self.files().items():
            size = file.stat().st_size
            state = "new" if path not in remote else "same" if _is_same(file, remote[path]) else "changed"
            changes.append(Change(state, path, size))
        changes += [Change("same", path, remote[path].size) for path in sorted(self.kept & set(remote))]
        gone = sorted(set(remote) - {change.path for change in changes})
        changes += [
            Change("deleted", path, remote[path].size) for path in gone if any(fnmatch(path, p) for p in self.owned)
        ]
        return changes

    def remote(self) -> dict[str, Any]:
        """Files of the repo at the branch, by path; none when there is no such repo yet.

        Raises:
            InputError: when the Hub cannot be asked, or the repo is of another sort.
        """
        with hub_errors(self.repo_id):
            return _patiently(self._read_remote)

    def files(self) -> dict[str, Path]:
        """What is pushed, by path in the repo."""
        found = {}
        for file in sorted(self.folder.rglob("*")):
            path = file.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in path.parts) and path.parts[0] != ".eval_results"
            if file.is_file() and not hidden:
                found[path.as_posix()] = file
        if not found:
            raise InputError(f"{self.folder} has no files to push.")
        return found

    def send(self, changes: list[Change]) -> str:
        """Carry out a plan; returns the address of the commit or pull request.

        Args:
            changes (`list[Change]`): what [`plan`] gave.

        Raises:
            InputError: when the Hub refuses it, or does not answer after several tries. Nothing is committed then,
                and another try sends only what is missing.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        files = self.files()
        _check_secrets([files[c.path] for c in changes if c.state in ("new", "changed")], self.folder)
        api = self._api()

        def commit() -> Any:
            # New objects at each try: the client marks them.
            operations: list[Any] = [
                CommitOperationAdd(change.path, str(files[change.path]))
                for change in changes
                if change.state in ("new", "changed")
            ]
            operations += [CommitOperationDelete(change.path) for change in changes if change.state == "deleted"]
            if not operations:
                return None
            return api.create_commit(
                self.repo_id,
                operations,
                commit_message=self.message,
                repo_type=self.repo_type,
                revision=self.revision,
                create_pr=self.create_pr,
                parent_commit=self.head,
            )

        with hub_errors(self.repo_id):
            if not self._exists:
                _patiently(self._create)
            if self.revision:
                _patiently(lambda: api.create_branch(
                    self.repo_id, branch=self.revision, repo_type=self.repo_type, exist_ok=True
                ))  # fmt: skip
            # A reply that was lost does not say whether a pull request was opened: no second one.
            info = _patiently(commit, lost_replies=not self.create_pr)
        if info is None:
            return f"{api.endpoint}/{'' if self.repo_type == 'model' else self.repo_type + 's/'}{self.repo_id}"
        return str(info.pr_url or info.commit_url)

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(token=self.token)

    def _create(self) -> None:
        self._api().create_repo(
            self.repo_id, repo_type=self.repo_type, private=self.private, exist_ok=True, space_sdk=self.space_sdk
        )

    def _read_remote(self) -> dict[str, Any]:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.hf_api import RepoFile

        api = self._api()
        api.whoami()  # a wrong token reads like a missing repo
        try:
            info = api.repo_info(self.repo_id, repo_type=self.repo_type, revision=self.revision)
        except RevisionNotFoundError:
            # The branch will start from the main one.
            info = api.repo_info(self.repo_id, repo_type=self.repo_type)
        except RepositoryNotFoundError:
            self._exists, self.head = False, None
            self._refuse_other_type(api)
            return {}
        self._exists, self.head = True, info.sha
        tree = api.list_repo_tree(self.repo_id, recursive=True, revision=info.sha, repo_type=self.repo_type)
        remote = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        others = set(remote) - {".gitattributes", "README.md", "LICENSE", ".gitignore"}
        if self.marker and others and self.marker not in remote:
            raise InputError(
                f"`{self.repo_id}` exists and holds something else (it has no {self.marker}): choose another name."
            )
        return remote

    def _refuse_other_type(self, api: HfApi) -> None:
        for other in ("model", "dataset", "space"):
            if other != self.repo_type and api.repo_exists(self.repo_id, repo_type=other):
                raise InputError(
                    f"`{self.repo_id}` is the name of a {other} repo already: choose another name for the "
                    f"{self.repo_type}."
                )


def describe(changes: list[Change]) -> str:
    """A plan as lines of text, one for each file, and their sum."""
    shown = [change for change in changes if change.state != "same"]
    lines = [f"{change.state:<8} {change.size:>14,}  {change.path}" for change in shown]
    travels = [change for change in changes if change.state in ("new", "changed")]
    same = len(changes) - len(shown)
    total = (
        f"{len(travels)} files, {sum(change.size for change in travels):,} bytes would travel; {same} are the same."
    )
    return "\n".join([*lines, total])


def _is_same(file: Path, remote: Any) -> bool:
    """Whether a file has the content that the Hub names: by SHA-256 for large ones, by git's SHA-1 for others."""
    size = file.stat().st_size
    if size != remote.size:
        return False
    if remote.lfs:
        return sha256_of_file(file) == remote.lfs.sha256
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.sha1(b"blob %d\0" % size))
    return digest.hexdigest() == remote.blob_id


def _check_secrets(files: list[Path], folder: Path) -> None:
    """A secret in what is pushed stops the push: it could not be taken back."""
    redactor = Redactor(personal=False)
    rules = Path(__file__).parents[1] / RULES_FILE  # forms of secrets, in a Space that brings this package
    for file in files:
        if file.name == RULES_FILE and file.read_bytes() == rules.read_bytes():
            continue
        kind = redactor.found_in(file)
        if kind:
            raise InputError(
                f"{file.relative_to(folder)} holds what looks like a secret ({kind}): take it out, then push again."
            )


def _patiently(call: Callable[[], Result], lost_replies: bool = True) -> Result:
    """Call again, with longer and longer waits, while the Hub asks to wait or does not answer.

    The client itself repeats uploads of files; what it sends once are the calls around them and the commit.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except OfflineModeIsEnabled:
            raise
        except HfHubHTTPError as error:
            if error.response.status_code not in _WAITS or attempt == _ATTEMPTS:
                raise
            asked = error.response.headers.get("Retry-After", "")
            wait = int(asked) if asked.isdigit() else 2**attempt
        except HTTPError:
            if not lost_replies or attempt == _ATTEMPTS:
                raise
            wait = 2**attempt
        print(f"The Hub is busy: the next try is in {wait} s.", file=sys.stderr)
        time.sleep(wait)
    raise AssertionError
