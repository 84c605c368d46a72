"""The loopback Hub against the real clients, so that tests which lean on it lean on something."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from loopback_hub import LoopbackHub


@pytest.fixture
def api(loopback_hub: LoopbackHub) -> HfApi:
    api = HfApi(endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    api.create_repo("tester/set", repo_type="dataset", private=True)
    return api


def upload(api: HfApi, path: str, content: bytes) -> str:
    return api.upload_file(
        path_or_fileobj=content, path_in_repo=path, repo_id="tester/set", repo_type="dataset"
    ).oid


def test_a_dataset_repository_keeps_its_history(
    api: HfApi, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    assert api.whoami()["name"] == "tester"
    first = upload(api, "data/part one.csv", b"a,b\n1,2\n")
    upload(api, "data/deep/x.parquet", bytes(range(256)))
    upload(api, "data/part one.csv", b"a,b\n3,4\n")
    files = ["data/deep/x.parquet", "data/part one.csv"]
    assert api.list_repo_files("tester/set", repo_type="dataset") == [".gitattributes", *files]
    tree = api.list_repo_tree("tester/set", "data", repo_type="dataset")
    assert [entry.path for entry in tree] == ["data/deep", "data/part one.csv"]
    known = api.get_paths_info("tester/set", [*files, "none"], repo_type="dataset")
    assert [(info.path, info.size) for info in known] == [(files[0], 256), (files[1], 8)]

    place = {"endpoint": api.endpoint, "token": api.token, "repo_type": "dataset", "cache_dir": tmp_path}
    old = hf_hub_download("tester/set", files[1], revision=first, **place)
    new = hf_hub_download("tester/set", files[1], **place)
    assert (Path(old).read_bytes(), Path(new).read_bytes()) == (b"a,b\n1,2\n", b"a,b\n3,4\n")
    whole = Path(snapshot_download("tester/set", **place))
    assert (whole / files[0]).read_bytes() == bytes(range(256))

    api.delete_folder("data/deep", "tester/set", repo_type="dataset")
    api.delete_file(files[1], "tester/set", repo_type="dataset")
    assert list(loopback_hub.files("tester/set", "dataset")) == [".gitattributes"]
    assert loopback_hub.files("tester/set", "dataset", first)[files[1]] == b"a,b\n1,2\n"


def test_errors_arrive_as_the_clients_own(api: HfApi, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    place = {"endpoint": api.endpoint, "cache_dir": tmp_path, "repo_type": "dataset"}
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("tester/set", "none.txt", token=api.token, **place)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("tester/set", "a.txt", revision="none", token=api.token, **place)
    missing, not_signed_in = ("tester/none", api.token), ("tester/set", False)
    for repo_id, token in (missing, not_signed_in):
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download(repo_id, ".gitattributes", token=token, **place)
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo("tester/set", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=api.endpoint, token="hf_wrong").whoami()
    head = upload(api, "a.txt", b"1")
    upload(api, "a.txt", b"2")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        api.upload_file(
            path_or_fileobj=b"3",
            path_in_repo="a.txt",
            repo_id="tester/set",
            repo_type="dataset",
            parent_commit=head,
        )


def test_ranges_resume_a_download(api: HfApi, loopback_hub: LoopbackHub) -> None:
    upload(api, "x.bin", bytes(range(100)))
    url = f"{api.endpoint}/datasets/tester/set/resolve/main/x.bin"
    for asked, expected in {
        "bytes=90-": range(90, 100),
        "bytes=5-8": range(5, 9),
        "bytes=98-500": range(98, 100),
    }.items():
        reply = get_session().get(url, headers={"Range": asked, "Authorization": f"Bearer {api.token}"})
        assert (reply.status_code, reply.content) == (206, bytes(expected))
        assert reply.headers["Content-Range"] == f"bytes {expected[0]}-{expected[-1]}/100"


SESSION = """
import datasets
from transformers import AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification

rows = datasets.Dataset.from_dict({"a": list(range(5))})
rows.push_to_hub("tester/rows", config_name="one", private=True)
assert datasets.load_dataset("tester/rows", "one", split="train")["a"] == list(range(5))
assert next(iter(datasets.load_dataset("tester/rows", "one", split="train", streaming=True))) == {"a": 0}

model = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))
model.push_to_hub("tester/model")
back = AutoModelForImageClassification.from_pretrained("tester/model")
assert all((value == back.state_dict()[name]).all() for name, value in model.state_dict().items())
print("both came back")
"""


def test_datasets_and_transformers_take_it_for_the_hub(loopback_hub: LoopbackHub) -> None:
    environment = {**os.environ, **loopback_hub.environment}
    done = subprocess.run([sys.executable, "-c", SESSION], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "both came back" in done.stdout, done.stderr[-2000:]
    assert "one/train-00000-of-00001.parquet" in loopback_hub.files("tester/rows", "dataset")
