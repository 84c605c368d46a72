"""Send a checked folder to the Hub: safe to repeat, and every refusal is one line that says what to do."""

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..errors import CellsError

_ADVICE = {
    401: "the token is not valid; run `hf auth login` again (`hf auth whoami` shows who is signed in)",
    403: "you may not write there: {owner} is somebody else's name, or your token is read-only; choose owner/name of "
    "your own (`hf auth whoami` shows yours)",
}
_OTHERWISE = (
    "check the name, the network and `hf auth whoami`, and push again: what has arrived is not sent twice"
)


def upload_files(
    folder: Path,
    repo_id: str,
    files: Iterable[str],
    kind: Literal["model", "dataset"] = "model",
    *,
    private: bool = True,
    endpoint: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    tag: str | None = None,
    message: str,
    replaced: str | None = None,
) -> str:
    """Create the repository where it is not there, send what it has not yet, and mark the commit.

    Large files are kept by the Hub before the one commit that names them all; so after a broken connection nothing is
    half published, and the next push goes on from there.

    Args:
        folder: Where the files are.
        repo_id: `owner/name`.
        files: Paths inside `folder`.
        kind: Of the repository.
        private: Whether a NEW repository is private. An existing one stays as it is.
        endpoint: URL of the Hub; the client's own setting by default.
        token: Access token; by default the one of `hf auth login`.
        revision: Branch, made from main when it is not there.
        tag: Name for the commit.
        message: First line of the commit.
        replaced: Pattern of files in the repository that go when they are not among `files`.

    Returns:
        URL of the commit.

    Raises:
        CellsError: The Hub refuses or is out of reach, or the tag marks another commit.
    """
    if token is None and get_token() is None:
        raise CellsError(f"cannot push to {repo_id}: nobody is signed in; run `hf auth login` first")
    api = HfApi(endpoint=endpoint, token=token)
    with one_line(folder, repo_id):
        api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
        if revision and not revision.startswith("refs/"):
            api.create_branch(repo_id, repo_type=kind, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=folder,
            allow_patterns=[glob.escape(path) for path in files],
            delete_patterns=replaced,
            revision=revision,
            commit_message=message,
        )
        if tag is not None:
            _mark(api, repo_id, kind, tag, commit.oid)
    return str(commit.commit_url)


@contextmanager
def one_line(folder: Path, repo_id: str) -> Iterator[None]:
    """Turn what the client throws into one line.

    Raises:
        CellsError: In place of it.
    """
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        owner, reason = repo_id.partition("/")[0], " ".join(str(error).split())[:300]
        advice = _ADVICE.get(status or 0, _OTHERWISE).format(owner=owner)
        raise CellsError(f"cannot push {folder} to {repo_id}: {reason}; {advice}") from error


def _mark(api: HfApi, repo_id: str, kind: str, tag: str, oid: str) -> None:
    """Tag a commit; a tag that is there already is left alone, for others may rely on it."""
    marked = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id, repo_type=kind).tags}
    if tag not in marked:
        api.create_tag(repo_id, repo_type=kind, tag=tag, revision=oid)
    elif marked[tag] != oid:
        raise CellsError(
            f"{repo_id}: the files are sent, but the tag {tag} marks an earlier commit and stays there; "
            "push again with another --tag"
        )
