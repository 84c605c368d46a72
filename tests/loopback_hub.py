"""A Hugging Face Hub on 127.0.0.1, good enough for the real `huggingface_hub`, `transformers` and `datasets`.

It speaks what huggingface_hub 2.4 speaks: repositories, branches, commits (NDJSON), LFS upload, trees,
downloads with ETag and Range, errors through `X-Error-Code`. Every commit is kept, so a test can count them.
It has no Xet: set HF_HUB_DISABLE_XET=1. `HF_ENDPOINT` is read when huggingface_hub is imported, so a test
either passes `endpoint=hub.endpoint` or starts a subprocess with `env={**os.environ, **hub.environment}`.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hub_metadata import metadata_errors

LFS_SUFFIXES = {".safetensors", ".bin", ".pt", ".parquet", ".arrow", ".onnx", ".zip", ".tif", ".tiff"}
LFS_SIZE = 10 * 2**20
API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
GIT = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"  # paths are matched while quoted: a slash inside a revision is %2F
ROUTES: list[tuple[str, str, Callable[..., None]]] = []


class HubError(Exception):
    """A refusal: HTTP status, message, and the Hub's error code."""

    def __init__(self, status: int, message: str, code: str = ""):
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Blob:
    sha256: str
    git_sha1: str
    size: int
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_sha1


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)  # commit oid -> path -> blob
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> str:
        oid = (self.branches | self.tags).get(unquote(revision), unquote(revision))
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return oid

    def commit(self, branch: str, message: str, tree: dict[str, Blob]) -> str:
        content = sorted((path, blob.etag) for path, blob in tree.items())
        oid = hashlib.sha1(json.dumps([*self.messages, message, content]).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = tree, oid
        self.messages.append(message)
        return oid


class LoopbackHub:
    """The server's state, and what tests ask of it."""

    token, user = "hf_loopback", "tester"

    def __init__(self, root: Path):
        self.root = root  # blobs lie in root/blobs/<sha256>
        self.repos: dict[tuple[str, str], Repo] = {}  # ("model" or "dataset", "owner/name")
        self.requests: list[str] = []  # "METHOD /path" in the order of arrival
        self.strangers: set[str] = set()  # owners in whose name the user may not write
        self.cut: tuple[str, str] | None = (
            None  # "before" or "after" which request to cut the connection, once
        )
        self.lock = threading.RLock()
        (root / "blobs").mkdir(parents=True)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What a subprocess needs to take this server for the Hub, with a cache of its own."""
        home = str(self.root / "hf_home")
        environment = {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": self.token, "HF_HOME": home}
        return environment | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    def files(self, repo_id: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """Content of every file of a revision."""
        repo = self.repos[kind, repo_id]
        tree = repo.commits[repo.resolve(revision)]
        return {path: self.blob_path(blob.sha256).read_bytes() for path, blob in tree.items()}

    def blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / Path(sha256).name

    def store(self, content: bytes, lfs: bool) -> Blob:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob_path(sha256).write_bytes(content)
        return Blob(
            sha256, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), len(content), lfs
        )

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def route(methods: str, pattern: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a handler; named groups of `pattern` become its arguments."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        ROUTES.append((methods, pattern, function))
        return function

    return register


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args: Any) -> None:
        """Stay quiet."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.body = self.read_body()
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        if self.cut_now("before"):
            return None
        try:
            for methods, pattern, function in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in methods.split():
                    arguments = {key: value for key, value in match.groupdict().items() if value}
                    with self.hub.lock:
                        return function(self, **arguments)
            raise HubError(404, f"no route for {self.command} {url.path}")
        except HubError as error:
            headers = {"X-Error-Message": error.message, "X-Error-Code": error.code}
            self.reply(json.dumps({"error": error.message}).encode(), error.status, headers)
        except (
            KeyError,
            ValueError,
        ) as error:  # a request this server does not understand is told so at once
            self.reply(json.dumps({"error": f"bad request: {error!r}"}).encode(), 400)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def cut_now(self, when: str) -> bool:
        """Cut the connection when that was asked for; a test does it once."""
        if (
            self.hub.cut is None
            or self.hub.cut[0] != when
            or not re.search(self.hub.cut[1], self.hub.requests[-1])
        ):
            return False
        self.hub.cut = None
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def reply(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.cut_now("after"):
            return
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: Any, status: int = 200) -> None:
        self.reply(json.dumps(value).encode(), status)

    def signed_in(self, needed: bool = False) -> bool:
        header = self.headers.get("Authorization")
        if header not in (None, f"Bearer {self.hub.token}") or (needed and header is None):
            raise HubError(401, "Invalid username or password.")
        return header is not None

    def repo(self, kind: str, name: str, write: bool = False) -> Repo:
        found, signed_in = self.hub.repos.get((kind, name)), self.signed_in(needed=write)
        if write:
            self.refuse_strangers(name)
        if found is None or (found.private and not signed_in):  # a private one is not admitted to exist
            raise HubError(404 if signed_in else 401, "Repository not found", "RepoNotFound")
        return found

    def refuse_strangers(self, name: str) -> None:
        if (owner := name.split("/")[0]) in self.hub.strangers:
            raise HubError(403, f"You don't have the rights to write under the namespace {owner}")

    def web_place(self, kind: str, repo: str) -> str:
        return f"{self.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo}"

    @route("GET", r"/api/whoami-v2")
    def whoami(self) -> None:
        self.signed_in(needed=True)
        access = {"displayName": "test", "role": "write"}
        self.json({"type": "user", "name": self.hub.user, "orgs": [], "auth": {"accessToken": access}})

    @route("POST", r"/api/validate-yaml")
    def validate_yaml(self) -> None:
        errors = [{"message": error} for error in metadata_errors(json.loads(self.body)["content"])]
        self.json({"errors": errors, "warnings": []}, 400 if errors else 200)

    @route("POST", r"/api/repos/create")
    def create_repo(self) -> None:
        self.signed_in(needed=True)
        asked = json.loads(self.body)
        kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        reply = {"url": self.web_place(kind, name), "name": name}
        if (kind, name) in self.hub.repos:
            return self.json({**reply, "error": "You already created this repo"}, 409)
        self.refuse_strangers(name)
        repo = self.hub.repos[kind, name] = Repo(private=asked.get("visibility") == "private")
        attributes = self.hub.store(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", lfs=False)
        repo.commit("main", "initial commit", {".gitattributes": attributes})
        return self.json(reply)

    @route("POST", rf"{API}/branch/{REVISION}")
    def create_branch(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo, write=True)
        if unquote(revision) in found.branches:
            raise HubError(409, f"Reference already exists: {unquote(revision)}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        found.branches[unquote(revision)] = found.resolve(start)
        self.json({})

    @route("POST", rf"{API}/tag/{REVISION}")
    def create_tag(self, kind: str, repo: str, revision: str) -> None:
        found, tag = self.repo(kind, repo, write=True), json.loads(self.body)["tag"]
        if tag in found.tags:
            raise HubError(409, f"Tag already exists: {tag}")
        found.tags[tag] = found.resolve(revision)
        self.json({})

    @route("GET", rf"{API}/refs")
    def refs(self, kind: str, repo: str) -> None:
        found = self.repo(kind, repo)
        kinds = {"branches": ("heads", found.branches), "tags": ("tags", found.tags)}
        entries = {
            name: [{"name": n, "ref": f"refs/{place}/{n}", "targetCommit": oid} for n, oid in refs.items()]
            for name, (place, refs) in kinds.items()
        }
        self.json({**entries, "converts": []})

    @route("GET", rf"{API}(?:/revision/{REVISION})?")
    def info(self, kind: str, repo: str, revision: str = "main") -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        info = {"id": repo, "author": repo.split("/")[0], "sha": oid, "private": found.private, "tags": []}
        info |= {"siblings": [{"rfilename": path} for path in sorted(found.commits[oid])]}
        self.json({**info, "disabled": False, "gated": False, "downloads": 0, "likes": 0})

    @route("POST", rf"{API}/preupload/{REVISION}")
    def preupload(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo, write=True)
        tree = found.commits[found.resolve(revision)]
        files = []
        for asked in json.loads(self.body)["files"]:
            lfs = Path(asked["path"]).suffix in LFS_SUFFIXES or asked["size"] > LFS_SIZE
            entry = {"path": asked["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            files.append(entry | ({"oid": tree[asked["path"]].etag} if asked["path"] in tree else {}))
        self.json({"files": files})

    @route("POST", rf"{GIT}\.git/info/lfs/objects/batch")
    def lfs_batch(self, repo: str, kind: str = "model") -> None:
        self.repo(kind, repo, write=True)
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in json.loads(self.body)["objects"]]
        for entry in objects:
            if not self.hub.blob_path(entry["oid"]).exists():
                entry["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs-store/{entry['oid']}"}}
        self.json({"transfer": "basic", "objects": objects})

    @route("PUT", r"/lfs-store/(?P<oid>[0-9a-f]{64})")
    def lfs_put(self, oid: str) -> None:
        if self.hub.store(self.body, lfs=True).sha256 != oid:
            raise HubError(400, f"content is not {oid}")
        self.reply(b"")

    @route("POST", rf"{API}/commit/{REVISION}")
    def commit(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo, write=True)
        head = found.resolve(revision)
        tree, message = dict(found.commits[head]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit", head) != head:
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                tree[value["path"]] = self.hub.store(base64.b64decode(value["content"]), lfs=False)
            elif key == "lfsFile":
                if not self.hub.blob_path(value["oid"]).exists():
                    raise HubError(400, f"LFS object {value['oid']} was never uploaded")
                tree[value["path"]] = self.hub.store(self.hub.blob_path(value["oid"]).read_bytes(), lfs=True)
            elif key == "deletedFile":
                tree.pop(value["path"])
            elif key == "deletedFolder":
                tree = {name: blob for name, blob in tree.items() if not name.startswith(value["path"])}
        oid = found.commit(unquote(revision), message, tree)
        self.json({"commitUrl": f"{self.web_place(kind, repo)}/commit/{oid}", "commitOid": oid})

    @route("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.+))?")
    def tree(self, kind: str, repo: str, revision: str, path: str = "") -> None:
        found = self.repo(kind, repo)
        prefix = f"{unquote(path)}/" if path else ""
        entries = tree_entries(found.commits[found.resolve(revision)])
        inside = [entry for name, entry in entries.items() if name.startswith(prefix)]
        if path and not inside:
            raise HubError(404, f"{unquote(path)} does not exist", "EntryNotFound")
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        self.json([entry for entry in inside if recursive or "/" not in entry["path"][len(prefix) :]])

    @route("POST", rf"{API}/paths-info/{REVISION}")
    def paths_info(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo)
        entries = tree_entries(found.commits[found.resolve(revision)])
        asked = parse_qs(self.body.decode()).get("paths", [])
        self.json([entries[path] for path in asked if path in entries])

    @route("GET HEAD", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)")
    def download(self, repo: str, revision: str, path: str, kind: str = "model") -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        blob = found.commits[oid].get(unquote(path))
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if blob is None:
            return self.reply(b"{}", 404, headers | {"X-Error-Code": "EntryNotFound"})
        content = self.hub.blob_path(blob.sha256).read_bytes()
        headers |= {"ETag": f'"{blob.etag}"', "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self.reply(content, 200, headers)
        start, last = int(asked[1]), min(int(asked[2] or blob.size - 1), blob.size - 1)
        headers["Content-Range"] = f"bytes {start}-{last}/{blob.size}"
        return self.reply(content[start : last + 1], 206, headers)


def tree_entries(tree: dict[str, Blob]) -> dict[str, dict[str, Any]]:
    """Files and the folders above them, as the tree and paths-info endpoints show them."""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(tree.items()):
        for folder in [parent.as_posix() for parent in Path(path).parents][:-1]:
            oid = hashlib.sha1(folder.encode()).hexdigest()
            entries[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        entries[path] = {"type": "file", "path": path, "oid": blob.git_sha1, "size": blob.size}
        if blob.lfs:
            entries[path]["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}
    return entries


@pytest.fixture
def loopback_hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    """A running Hub: `hub.endpoint` is its URL, `hub.token` the token it takes, `hub.root` its storage."""
    hub = LoopbackHub(tmp_path / "loopback-hub")
    yield hub
    hub.close()
