"""A Hub for tests: a server on loopback that speaks the endpoints which today's `huggingface_hub` client calls.

It keeps repositories with commits, branches, pull requests and large files in memory, knows users with read and write
tokens, can fail on demand, and records every request with its body. The real client talks to it over sockets; see
[`client_environment`] for the variables that a process needs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


WRITE, READ, STRANGER = "hf_writewritewrite", "hf_readreadread", "hf_strangerstranger"
LARGE = (".safetensors", ".parquet", ".bin", ".pt", ".pkl", ".png", ".jpg", ".arrow", ".zip")
REGULAR_LIMIT = 10 * 2**20
_TYPES = "models|datasets|spaces"


def client_environment(url: str, home: str | Path, token: str | None = WRITE) -> dict[str, str]:
    """Variables of a process that talks to the server at `url` with an empty cache below `home`."""
    import os

    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **({"HF_TOKEN": token} if token else {})}


@dataclass
class User:
    name: str
    role: str


@dataclass
class Fault:
    """What goes wrong at the next `count` requests whose `METHOD path` matches.

    Args:
        pattern (`str`): regular expression.
        status (`int`): the reply's status; 0 cuts the connection after `after` bytes of the body, -1 never answers.
        message (`str`): the reply's error message.
        headers (`dict[str, str]`): further headers of the reply.
        after (`int`): bytes of the body that are read before a cut.
        count (`int`): how often.
        lost (`bool`): the request is carried out and only its reply is lost.
    """

    pattern: str
    status: int = 503
    message: str = "the server is tired"
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0
    count: int = 1
    lost: bool = False


@dataclass
class Commit:
    sha: str
    files: dict[str, str]
    title: str
    message: str
    author: str
    parent: str | None
    date: str


@dataclass
class Repo:
    kind: str
    name: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        return self.commits.get(revision)

    def history(self, revision: str = "main") -> list[Commit]:
        """Commits from the newest to the first."""
        found, commit = [], self.resolve(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HubServer(ThreadingHTTPServer):
    """The server; use it as a context manager. State is plain attributes that tests look into."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.users = {WRITE: User("user", "write"), READ: User("user", "read"), STRANGER: User("stranger", "write")}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.large: set[str] = set()
        self.collections: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests; anything else is printed."""
        import sys

        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def files(self, name: str, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        """What a repo holds at a revision; nothing when there is no such repo."""
        repo = self.repos.get((kind, name))
        commit = repo.resolve(revision) if repo else None
        return {path: self.blobs[digest] for path, digest in commit.files.items()} if commit else {}

    def add_repo(self, name: str, kind: str = "models", **settings: Any) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, **settings)
        first = self.commit(repo, "refs/heads/main", {".gitattributes": b""}, [], "initial commit", "", "system")
        repo.refs["refs/heads/main"] = first.sha
        return repo

    def put(self, name: str, files: dict[str, bytes], kind: str = "models") -> None:
        """Commit files without the client, as somebody else would: hostile ones too."""
        repo = self.repos.get((kind, name)) or self.add_repo(name, kind)
        for path, data in files.items():
            if path.endswith(LARGE):
                self.large.add(hashlib.sha256(data).hexdigest())
        self.commit(repo, "refs/heads/main", files, [], "files", "", "somebody")

    def commit(
        self,
        repo: Repo,
        ref: str,
        added: dict[str, bytes],
        deleted: list[str],
        title: str,
        message: str,
        author: str,
        onto: str | None = None,
    ) -> Commit:
        with self.lock:
            parent = repo.refs.get(onto or ref)
            files = dict(repo.commits[parent].files) if parent else {}
            for path in deleted:
                files = {p: d for p, d in files.items() if p != path and not p.startswith(path.rstrip("/") + "/")}
            for path, data in added.items():
                files[path] = hashlib.sha256(data).hexdigest()
                self.blobs[files[path]] = data
            date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            sha = hashlib.sha1(f"{parent}{ref}{sorted(files.items())}{title}{len(repo.commits)}".encode()).hexdigest()
            commit = repo.commits[sha] = Commit(sha, files, title, message, author, parent, date)
            repo.refs[ref] = sha
            return commit

    def oid(self, digest: str) -> str:
        """What git calls a file; a large file is called by the digest of its content."""
        if digest in self.large:
            return digest
        data = self.blobs[digest]
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def stored(self) -> bytes:
        """Everything that a reader of the repositories could see: files of all commits, messages, collections."""
        texts = [
            f"{commit.title}\n{commit.message}\n{list(commit.files)}"
            for repo in self.repos.values()
            for commit in repo.commits.values()
        ]
        texts += [json.dumps(self.collections), *(f"{kind} {name}" for kind, name in self.repos)]
        return b"\n".join([*self.blobs.values(), "\n".join(texts).encode()])


class Reply(Exception):
    def __init__(self, status: int, value: Any = None, **headers: str):
        self.status, self.value = status, value
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


def error(status: int, message: str, code: str | None = None) -> Reply:
    headers = {"X_Error_Message": message, **({"X_Error_Code": code} if code else {})}
    return Reply(status, {"error": message}, **headers)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        address = urlsplit(self.path)
        self.route, self.query = address.path, parse_qs(address.query)
        fault = self._take_fault(f"{self.command} {self.route}")
        if fault and fault.status == 0 and not fault.lost:
            self.rfile.read(min(fault.after, int(self.headers.get("Content-Length", fault.after))))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.body = self._read_body()
        self.server.requests.append(Request(self.command, self.path, dict(self.headers), self.body))
        try:
            if fault and fault.status == -1:
                time.sleep(60)
            if fault and not fault.lost:
                reply = error(fault.status, fault.message)
                reply.headers |= fault.headers
                raise reply
            self._dispatch()
            reply = error(404, f"no such endpoint: {self.command} {self.route}")
        except Reply as found:
            reply = found
        if fault and fault.lost:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._send(reply)

    def _take_fault(self, line: str) -> Fault | None:
        with self.server.lock:
            for fault in self.server.faults:
                if fault.count > 0 and re.search(fault.pattern, line):
                    fault.count -= 1
                    return fault
        return None

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, reply: Reply) -> None:
        data = reply.value if isinstance(reply.value, bytes) else json.dumps(reply.value).encode()
        self.send_response(reply.status)
        for name, text in reply.headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Who asks, and for what

    @property
    def user(self) -> User | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        if token and token not in self.server.users:
            raise error(401, "Invalid credentials in Authorization header")
        return self.server.users.get(token)

    def _repo(self, kind: str, name: str, write: bool = False, content: bool = False) -> Repo:
        user, repo = self.user, self.server.repos.get((kind, name))
        owns = user is not None and user.name == name.split("/")[0]
        if repo is None or (repo.private and not owns):
            raise error(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if content and repo.gated and not owns:
            raise error(401 if user is None else 403, f"Access to {name} is restricted", "GatedRepo")
        if write and (user is None or user.role != "write"):
            raise error(403, "Authorization error: this token has no write right")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.resolve(unquote(revision))
        if commit is None:
            raise error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")

    def _dispatch(self) -> None:
        method, route = self.command, self.route
        if (method, route) == ("GET", "/api/whoami-v2"):
            if self.user is None:
                raise error(401, "Invalid credentials in Authorization header")
            role = {"type": "access_token", "accessToken": {"displayName": "test", "role": self.user.role}}
            raise Reply(200, {"type": "user", "name": self.user.name, "orgs": [], "auth": role})
        if (method, route) == ("POST", "/api/repos/create"):
            self._create()
        if (method, route) == ("DELETE", "/api/repos/delete"):
            kind, name = self._named()
            self._repo(kind, name, write=True)
            del self.server.repos[kind, name]
            raise Reply(200, {})
        if (method, route) == ("POST", "/api/validate-yaml"):
            self._validate()
        if match := re.fullmatch(r"/api/collections(?:/([^/]+/[^/]+?)(/items)?)?", route):
            self._collection(match[1], bool(match[2]))
        if match := re.fullmatch(rf"/api/({_TYPES})/([^/]+/[^/]+)(?:/(.*))?", route):
            self._api(match[1], match[2], match[3] or "")
        if match := re.fullmatch(r"/(datasets/|spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", route):
            self._batch((match[1] or "models/")[:-1], match[2])
        if match := re.fullmatch(r"/lfs/([0-9a-f]{64})", route):
            self._large_file(match[1])
        if match := re.fullmatch(r"/(datasets/|spaces/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", route):
            self._resolve((match[1] or "models/")[:-1], match[2], match[3], unquote(match[4]))

    def _named(self) -> tuple[str, str]:
        owner = self.json.get("organization") or (self.user.name if self.user else "")
        return f"{self.json.get('type') or 'model'}s", f"{owner}/{self.json['name']}"

    def _create(self) -> None:
        if self.user is None:
            raise error(401, "Invalid username or password.")
        kind, name = self._named()
        if self.user.name != name.split("/")[0] or self.user.role != "write":
            raise error(403, f"You don't have the rights to create a {kind[:-1]} under the namespace {name}")
        url = f"{self.server.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if (kind, name) in self.server.repos:
            raise Reply(409, {"error": "You already created this repo", "url": url})
        private = self.json.get("visibility") == "private"
        self.server.add_repo(name, kind, private=private, sdk=self.json.get("sdk"))
        raise Reply(200, {"url": url, "name": name})

    def _validate(self) -> None:
        content = self.json["content"]
        match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
        try:
            data = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError as problem:
            raise Reply(400, {"errors": [{"message": f"YAML: {problem}"}], "warnings": []}) from None
        problems = []
        if not isinstance(data, dict):
            problems = ["the metadata must be a mapping"]
        else:
            lists = ("tags", "datasets", "task_categories", "configs", "model-index")
            texts = ("pipeline_tag", "library_name", "license_name")
            problems = [f'"{k}" must be an array' for k in lists if k in data and not isinstance(data[k], list)]
            problems += [f'"{k}" must be a string' for k in texts if k in data and not isinstance(data[k], str)]
        if problems:
            raise Reply(400, {"errors": [{"message": text} for text in problems], "warnings": []})
        raise Reply(200, {"errors": [], "warnings": []})

    def _collection(self, slug: str | None, items: bool) -> None:
        if self.user is None:
            raise error(401, "Invalid username or password.")
        server = self.server
        if slug is None and self.command == "POST":
            title, owner = self.json["title"], self.json["namespace"]
            slug = f"{owner}/{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}-{'0' * 24}"
            if slug in server.collections:
                raise Reply(409, {"slug": slug})
            server.collections[slug] = {
                **{"slug": slug, "title": title, "owner": {"name": owner}, "items": [], "position": 0, "upvotes": 0},
                **{"lastUpdated": "2026-01-01T00:00:00.000Z", "private": bool(self.json.get("private"))},
                **{"theme": "green", "description": self.json.get("description", "")},
            }
        if slug not in server.collections:
            raise error(404, "no such collection")
        collection = server.collections[slug]
        if items:
            entry = self.json["item"]
            if any(entry["id"] == item["id"] for item in collection["items"]):
                raise error(409, "already there")
            number = len(collection["items"])
            collection["items"].append({**entry, "_id": str(number), "position": number})
        raise Reply(200, collection)

    # Repositories

    def _api(self, kind: str, name: str, rest: str) -> None:
        verb, _, argument = rest.partition("/")
        if self.command == "GET" and verb in ("", "revision"):
            repo = self._repo(kind, name)
            self._info(repo, self._commit(repo, argument or "main"))
        if verb == "preupload":
            repo = self._repo(kind, name, write=not self.query.get("create_pr"))
            self._preupload(repo, self._commit(repo, argument))
        if verb == "commit":
            self._receive(kind, name, unquote(argument))
        if verb == "tree":
            repo = self._repo(kind, name, content=True)
            revision, _, below = argument.partition("/")
            self._tree(self._commit(repo, revision), unquote(below))
        if verb == "paths-info":
            repo = self._repo(kind, name, content=True)
            commit = self._commit(repo, argument)
            form = self.json if self.headers.get("Content-Type", "").startswith("application/json") else None
            paths = form["paths"] if form else parse_qs(self.body.decode())["paths"]
            raise Reply(200, [entry for path in paths for entry in self._entries(commit, path)])
        if verb == "refs":
            self._refs(self._repo(kind, name))
        if verb == "commits":
            repo = self._repo(kind, name)
            self._commit(repo, argument)
            raise Reply(200, [
                {"id": c.sha, "authors": [{"user": c.author}], "date": c.date, "title": c.title, "message": c.message}
                for c in repo.history(unquote(argument))
            ])  # fmt: skip
        if verb in ("branch", "tag") and self.command == "POST":
            self._new_ref(self._repo(kind, name, write=True), verb, unquote(argument))

    def _info(self, repo: Repo, commit: Commit) -> None:
        files = {path: self.server.blobs[digest] for path, digest in commit.files.items()}
        card = re.match(rb"---\r?\n(.*?)\r?\n---", files.get("README.md", b""), re.DOTALL)
        card = (yaml.safe_load(card[1]) if card else {}) or {}
        info = {
            **{"_id": "0", "id": repo.name, "sha": commit.sha, "private": repo.private, "disabled": False},
            **{
                "gated": "auto" if repo.gated else False,
                "downloads": 0,
                "likes": 0,
                "author": repo.name.split("/")[0],
            },
            **{"lastModified": commit.date, "createdAt": commit.date, "tags": card.get("tags", []), "cardData": card},
            "siblings": [{"rfilename": path} for path in sorted(files)],
        }
        if repo.kind == "models":
            results = [
                {"filename": path, "data": entry}
                for path, data in sorted(files.items())
                if re.fullmatch(r"\.eval_results/[^/]+\.ya?ml", path)
                for entry in yaml.safe_load(data)
            ]
            info |= {name: card[name] for name in ("library_name", "pipeline_tag") if name in card}
            info |= {"evalResults": results, "modelId": repo.name}
        raise Reply(200, info)

    def _preupload(self, repo: Repo, commit: Commit) -> None:
        raise Reply(200, {"files": [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) or file["size"] > REGULAR_LIMIT else "regular",
                "shouldIgnore": False,
                "oid": self.server.oid(commit.files[file["path"]]) if file["path"] in commit.files else None,
            }
            for file in self.json["files"]
        ]})  # fmt: skip

    def _receive(self, kind: str, name: str, revision: str) -> None:
        propose = bool(self.query.get("create_pr"))
        repo, user = self._repo(kind, name), self.user
        owns = user is not None and user.name == name.split("/")[0]
        if user is None or user.role != "write" or not (owns or propose):
            raise error(403, f"You don't have the rights to commit to {name}; open a pull request")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        main = f"refs/heads/{revision}" if not revision.startswith("refs/") else revision
        if main not in repo.refs:
            raise error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if header.get("parentCommit") not in (None, repo.refs[main]):
            raise error(412, "A commit has happened since. Please refresh and try again.")
        added, deleted = {}, []
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                if value["oid"] not in self.server.blobs:
                    raise error(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                added[value["path"]] = self.server.blobs[value["oid"]]
            if line["key"] in ("deletedFile", "deletedFolder"):
                deleted.append(value["path"])
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
        ref = f"refs/pr/{number}" if propose else main
        commit = self.server.commit(
            repo, ref, added, deleted, header["summary"], header.get("description", ""), user.name, onto=main
        )
        url = f"{self.server.url}/{'' if kind == 'models' else kind + '/'}{name}"
        reply = {"success": True, "commitOid": commit.sha, "commitUrl": f"{url}/commit/{commit.sha}", "hookOutput": ""}
        raise Reply(200, {**reply, **({"pullRequestUrl": f"{url}/discussions/{number}"} if propose else {})})

    def _entries(self, commit: Commit, path: str) -> list[dict[str, Any]]:
        path = path.strip("/")
        if path in commit.files:
            return [self._entry(path, commit.files[path])]
        if not path or any(name.startswith(f"{path}/") for name in commit.files):
            return [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0}]
        return []

    def _entry(self, path: str, digest: str) -> dict[str, Any]:
        size = len(self.server.blobs[digest])
        entry = {"type": "file", "path": path, "oid": self.server.oid(digest)[:40], "size": size}
        if digest in self.server.large:
            entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 130}
        return entry

    def _tree(self, commit: Commit, below: str) -> None:
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        names = [name for name in commit.files if name.startswith(prefix)]
        if prefix and not names:
            raise error(404, f"{below} does not exist", "EntryNotFound")
        folders, entries = set(), []
        for name in sorted(names):
            parts = name[len(prefix) :].split("/")
            folders |= {prefix + "/".join(parts[:n]) for n in range(1, len(parts))}
            if recursive or len(parts) == 1:
                entries.append(self._entry(name, commit.files[name]))
        folders = sorted(f for f in folders if recursive or "/" not in f[len(prefix) :])
        raise Reply(200, [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders] + entries)

    def _refs(self, repo: Repo) -> None:
        def listed(start: str) -> list[dict[str, str]]:
            return [
                {"name": ref.removeprefix(start), "ref": ref, "targetCommit": sha}
                for ref, sha in repo.refs.items()
                if ref.startswith(start)
            ]

        found = {"branches": listed("refs/heads/"), "tags": listed("refs/tags/"), "converts": []}
        raise Reply(200, {**found, **({"pullRequests": listed("refs/pr/")} if self.query.get("include_prs") else {})})

    def _new_ref(self, repo: Repo, verb: str, name: str) -> None:
        ref = f"refs/heads/{name}" if verb == "branch" else f"refs/tags/{self.json['tag']}"
        if ref in repo.refs:
            raise error(409, "Reference already exists")
        start = self.json.get("startingPoint", "main") if verb == "branch" else name
        repo.refs[ref] = self._commit(repo, start).sha
        raise Reply(200, {})

    # Bytes

    def _batch(self, kind: str, name: str) -> None:
        self._repo(kind, name)
        if self.user is None or self.user.role != "write":
            raise error(403, "Authorization error: this token has no write right")
        objects = []
        for entry in self.json["objects"]:
            if entry["oid"] not in self.server.blobs:
                entry["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{entry['oid']}", "header": {}}}
            objects.append(entry)
        raise Reply(200, {"transfer": "basic", "objects": objects})

    def _large_file(self, digest: str) -> None:
        server = self.server
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != digest:
                raise error(400, "the content has another digest")
            server.blobs[digest] = self.body
            server.large.add(digest)
            raise Reply(200, {})
        self._send_range(server.blobs[digest], {"ETag": f'"{digest}"'})

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self._repo(kind, name, content=True)
        commit = self._commit(repo, revision)
        digest = commit.files.get(path)
        if digest is None:
            reply = error(404, "Entry not found", "EntryNotFound")
            reply.headers["X-Repo-Commit"] = commit.sha
            raise reply
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{self.server.oid(digest)}"', "Accept-Ranges": "bytes"}
        if digest in self.server.large:
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(self.server.blobs[digest]))}
            reply = Reply(302, b"")
            # Another host, as the Hub's storage is: the client does not send its token there.
            storage = self.server.url.replace("127.0.0.1", "localhost")
            reply.headers = {**headers, "Location": f"{storage}/lfs/{digest}"}
            raise reply
        self._send_range(self.server.blobs[digest], headers)

    def _send_range(self, data: bytes, headers: dict[str, str]) -> None:
        reply = Reply(200, data)
        reply.headers = headers
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            reply.status, reply.value = 206, data[start : end + 1]
            reply.headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        raise reply
