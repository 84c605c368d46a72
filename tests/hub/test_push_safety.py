"""What must not leave stays here, a broken connection leaves nothing half done, and refusals are one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import LoopbackHub
from PIL import Image, PngImagePlugin
from safetensors.numpy import load_file, save_file

from hf_cells.errors import CellsError
from hf_cells.hub.push import push_model
from hf_cells.hub.safety import identifying, scan

TOKEN = "hf_" + "aB3" * 12


def push(folder: Path, hub: LoopbackHub, **arguments: object) -> str | dict[str, int]:
    settings: dict[str, object] = {"endpoint": hub.endpoint, "token": hub.token, **arguments}
    return push_model(folder, str(settings.pop("repo_id", "tester/cells")), **settings)


def append(name: str, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text((path.read_text() if path.exists() else "") + text)

    return spoil


def weights_metadata(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "source": "/home/anna/run7/last"})


def picture_text(folder: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "scan of S-2019-012345")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "figures/curves.png", pnginfo=texts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            append("README.md", f"\nlogin with {TOKEN}\n"),
            r"README.md, line \d+: holds a Hugging Face token \(hf_…",
        ),
        (
            append("modeling_x.py", "KEY = 'AKIAABCDEFGHIJKLMNOP'\n"),
            "modeling_x.py, line 1: holds an AWS key",
        ),
        (append("LICENSE", "-----BEGIN RSA PRIVATE KEY-----\n"), "LICENSE, line 1: holds a private key"),
        (
            append("history.csv", "epoch,url\n1,https://me:pw@host/x\n"),
            "line 2: holds a password in an address",
        ),
        (append("recipe.yaml", "note: 'api_key: abcdef0123456789'\n"), "recipe.yaml, line 3: holds a secret"),
        (append("recipe.yaml", "init: /home/anna/run7\n"), "recipe.yaml, line 3: holds an absolute path"),
        (append("recipe.yaml", "init: /cluster/of/ours\n"), "recipe.yaml, line 3: holds an absolute path"),
        (append("recipe.yaml", "init: 'C:\\Users\\anna'\n"), "recipe.yaml, line 3: holds an absolute path"),
        (append("history.csv", "who\nanna@clinic.org\n"), "history.csv, line 2: holds an e-mail address"),
        (
            append("history.csv", "worst\nS-2019-012345_PAS\n"),
            "line 2: holds what looks like the number of a case",
        ),
        (
            append("history.csv", "worst\nPatient 00412\n"),
            "line 2: holds what looks like the number of a case",
        ),
        (append("history.csv", "worst\nslide_17b.ndpi\n"), "line 2: holds the name of an image file"),
        (weights_metadata, "model.safetensors: holds an absolute path"),
        (picture_text, "figures/curves.png: holds what looks like the number of a case or patient"),
    ],
)
def test_secrets_paths_and_people_never_leave(
    model_folder: Path, loopback_hub: LoopbackHub, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(model_folder)
    with pytest.raises(CellsError, match=message) as caught:
        push(model_folder, loopback_hub)
    told = str(caught.value)
    assert "\n" not in told and str(model_folder) in told and "; " in told
    assert not any(name in told.replace(str(model_folder), "") for name in (TOKEN, "anna", "012345", "00412"))
    assert loopback_hub.requests == []


def test_what_a_sound_repository_says_is_left_alone(model_folder: Path) -> None:
    files = [path.relative_to(model_folder).as_posix() for path in model_folder.rglob("*") if path.is_file()]
    (model_folder / "notes.md").write_text(
        "Caicedo 2019, doi 10.1038/s41592-019-0612-7, see https://example.org/a/b and ![x](figures/curves.png), "
        "TP / (TP + FP), 2/3 of them, and/or `photo.png`, mail to someone@example.com, 2019-11-23, cc0-1.0 </summary>"
    )
    assert list(scan(model_folder, [*files, "notes.md"])) == []


@given(
    year=st.integers(1990, 2029),
    number=st.integers(10_000, 999_999),
    prefix=st.sampled_from(["S", "H", "SP"]),
)
def test_accession_numbers_are_recognised_in_any_spelling(year: int, number: int, prefix: str) -> None:
    for text in (
        f"{prefix}-{year}-{number}",
        f"{prefix}{year}_{number}",
        f"crop_{prefix}{year % 100:02d}-{number}_PAS",
    ):
        assert identifying(text), text


def test_plain_names_are_no_persons() -> None:
    for text in ("00412", "nuclei_17", "a1b2c3d4e5f6", "B2-17", "well_A01_field_3", "e5f6.png"):
        assert identifying(text) is None, text


@pytest.mark.parametrize(
    "where", [("before", "POST .*/commit/"), ("after", "POST .*/commit/"), ("before", "PUT ")]
)
def test_connection_cut_in_mid_push(
    model_folder: Path, loopback_hub: LoopbackHub, where: tuple[str, str]
) -> None:
    loopback_hub.cut = where
    try:
        push(model_folder, loopback_hub)
    except CellsError as error:
        assert "\n" not in str(error) and "push again" in str(error)
    assert loopback_hub.cut is None  # it was cut
    url = push(model_folder, loopback_hub)
    assert push(model_folder, loopback_hub) == url
    repo = loopback_hub.repos["model", "tester/cells"]
    assert repo.messages == ["initial commit", "Upload model with hf-cells"]
    weights = (model_folder / "model.safetensors").read_bytes()
    assert loopback_hub.files("tester/cells")["model.safetensors"] == weights


def test_a_tag_marks_a_version_and_stays(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    push(model_folder, loopback_hub, tag="v1")
    push(model_folder, loopback_hub, tag="v1")  # the same commit again
    first = loopback_hub.files("tester/cells", revision="v1")
    (model_folder / "figures" / "curves.png").write_bytes(b"\x89PNG new")
    with pytest.raises(CellsError, match="the tag v1 marks an earlier commit"):
        push(model_folder, loopback_hub, tag="v1")
    push(model_folder, loopback_hub, tag="v2")
    assert loopback_hub.files("tester/cells", revision="v1") == first
    assert loopback_hub.files("tester/cells", revision="v2")["figures/curves.png"] == b"\x89PNG new"


def test_refusals_say_what_to_do(
    model_folder: Path, loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback_hub.strangers.add("famous")
    with pytest.raises(CellsError, match="famous is somebody else's name") as caught:
        push(model_folder, loopback_hub, repo_id="famous/cells")
    assert "403" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(CellsError, match="the token is not valid; run `hf auth login` again"):
        push(model_folder, loopback_hub, token="hf_wrong")
    monkeypatch.setattr("hf_cells.hub.push_upload.get_token", lambda: None)
    with pytest.raises(CellsError, match="nobody is signed in; run `hf auth login` first"):
        push(model_folder, loopback_hub, token=None)
