"""Publishing to a loopback Hub: what goes up comes back identical, and what must not leave stays here."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants, snapshot_download
from loopback_hub import LoopbackHub

from hf_cells.errors import CellsError
from hf_cells.hub.push import push_model

MODEL = [
    ".eval_results/hf-cells.yaml",
    "README.md",
    "config.json",
    "figures/curves.png",
    "figures/overlays.png",
    "model.safetensors",
    "preprocessor_config.json",
    "recipe.yaml",
    "results.json",
]


def push(
    folder: Path, hub: LoopbackHub, repo_id: str = "tester/cells", **arguments: object
) -> str | dict[str, int]:
    return push_model(folder, repo_id, endpoint=hub.endpoint, token=hub.token, **arguments)


def contents(folder: Path, names: list[str] = MODEL) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def test_a_pushed_model_comes_back_identical(
    model_folder: Path, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    readme = model_folder / "README.md"
    readme.write_text(readme.read_text() + "\n## Thanks\n\nWritten by hand, and kept.\n")
    url = push(model_folder, loopback_hub)
    sha = loopback_hub.repos["model", "tester/cells"].branches["main"]
    assert url == f"{loopback_hub.endpoint}/tester/cells/commit/{sha}"
    assert loopback_hub.repos["model", "tester/cells"].private
    assert "POST /api/validate-yaml" in loopback_hub.requests

    back = Path(
        snapshot_download(
            "tester/cells",
            endpoint=loopback_hub.endpoint,
            token=loopback_hub.token,
            cache_dir=tmp_path / "cache",
        )
    )
    others = [name for name in MODEL if name != "README.md"]
    assert contents(back, others) == contents(model_folder, others)
    assert "tester/cells" not in readme.read_text()  # the folder that was pushed stays as it was
    assert sorted(loopback_hub.files("tester/cells")) == sorted([".gitattributes", *MODEL])
    assert (back / "README.md").read_text().endswith("Written by hand, and kept.\n")
    assert 'hf_cells.pipeline("tester/cells")' in (back / "README.md").read_text()

    images = AutoImageProcessor.from_pretrained(back)(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), return_tensors="pt"
    )
    with torch.no_grad():
        first, second = (
            AutoModelForImageClassification.from_pretrained(place)(**images).logits
            for place in (model_folder, back)
        )
    assert torch.equal(first, second)


def test_pushing_again_sends_only_what_changed(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    first = push(model_folder, loopback_hub, commit_message="first")
    assert push(model_folder, loopback_hub, private=False) == first
    repo = loopback_hub.repos["model", "tester/cells"]
    assert repo.messages == ["initial commit", "first"] and repo.private

    (model_folder / "figures" / "curves.png").write_bytes(b"\x89PNG new")
    assert push(model_folder, loopback_hub) != first
    assert repo.messages[2:] == ["Upload model with hf-cells"]
    assert loopback_hub.files("tester/cells")["figures/curves.png"] == b"\x89PNG new"
    uploads = [request for request in loopback_hub.requests if request.startswith("PUT")]
    assert len(uploads) == 1  # the weights went up once


def test_a_branch_is_made_when_it_is_not_there(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    for _ in range(2):
        push(model_folder, loopback_hub, revision="trial/one")
    assert list(loopback_hub.files("tester/cells")) == [".gitattributes"]
    assert "model.safetensors" in loopback_hub.files("tester/cells", revision="trial/one")


def test_a_dry_run_lists_and_sends_nothing(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    before = contents(model_folder)
    sizes = push(model_folder, loopback_hub, dry_run=True)
    assert list(sizes) == MODEL
    assert sizes["model.safetensors"] == (model_folder / "model.safetensors").stat().st_size
    assert loopback_hub.requests == [] and contents(model_folder) == before


def test_training_state_and_strange_files_never_leave(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    strangers = [
        "checkpoints/epoch_1/model.safetensors",
        "checkpoint-500/optimizer.bin",
        "optimizer.safetensors",
        "optimizer.bin",
        "scheduler.bin",
        "random_states_0.pkl",
        "trainer_state.json",
        "training_args.bin",
        ".git/config.json",
        "predictions/case_1.png",
        "splits.json",
        "per_image.csv",
        "results.json.bak",
        "figures/deep/overlay.png",
    ]
    for name in strangers:
        (model_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (model_folder / name).write_bytes(b"private")
    (model_folder / "modeling_cells.py").write_text("VALUE = 1\n")
    push(model_folder, loopback_hub)
    assert sorted(loopback_hub.files("tester/cells")) == sorted(
        [".gitattributes", "modeling_cells.py", *MODEL]
    )


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def replace(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def name_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "auto_map": {"AutoConfig": "other/repo--shared.Config", "AutoModel": ["modeling_cells.Model", None]},
        "custom_pipelines": {"cell-segmentation": {"impl": "pipeline_cells.Pipeline"}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pipeline_cells.py").write_text("")


def link_outside_figures(folder: Path) -> None:
    (folder / "gallery.png").write_bytes(b"x")
    replace("README.md", "](figures/curves.png)", "](gallery.png)")(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), "no model repository: it has no config.json"),
        (remove("model.safetensors"), "no model repository: it has no safetensors weights"),
        (remove("README.md"), "has no model card"),
        (remove("results.json"), "results.json is missing"),
        (write("pytorch_model.bin", "x"), "pytorch_model.bin is a pickle"),
        (write("figures/best.PTH", "x"), "best.PTH is a pickle"),
        (write("model.safetensors", "half of i"), "model.safetensors is no whole safetensors file"),
        (write("config.json", "{"), "cannot read .*config.json"),
        (name_code, "modeling_cells.py is missing, but config.json names it as code"),
        (
            replace("README.md", "| 0.612 |", "| 0.912 |"),
            r"0\.912 .* is not what results.json says .*\(and 1 more\)",
        ),
        (
            replace("README.md", "](figures/curves.png)", "](gallery.png)"),
            "gallery.png is linked and missing",
        ),
        (link_outside_figures, "README.md links gallery.png, which is not sent"),
        (shutil.rmtree, "is no folder"),
    ],
)
def test_what_is_no_sound_model_repository_is_refused(
    model_folder: Path, loopback_hub: LoopbackHub, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(model_folder)
    with pytest.raises(CellsError, match=message) as caught:
        push(model_folder, loopback_hub)
    assert "\n" not in str(caught.value) and str(model_folder) in str(caught.value)
    assert loopback_hub.requests == []


def test_the_hub_refusing_is_one_line(model_folder: Path, loopback_hub: LoopbackHub) -> None:
    for arguments, reason in [
        ({"repo_id": "tester/cells", "token": "hf_wrong"}, "401"),
        ({"repo_id": "tester/cells", "token": loopback_hub.token, "revision": "refs/pr/9"}, "refs/pr/9"),
    ]:
        with pytest.raises(CellsError, match=reason) as caught:
            push_model(model_folder, endpoint=loopback_hub.endpoint, **arguments)
        assert "\n" not in str(caught.value) and "`hf auth whoami`" in str(caught.value)
        assert "hf_wrong" not in str(caught.value)
    with pytest.raises(CellsError, match=r"'not a name' is no name on the Hub .*; give owner/name"):
        push_model(model_folder, "not a name", endpoint=loopback_hub.endpoint, token=loopback_hub.token)
    with pytest.raises(CellsError, match=r"cannot push .* to tester/cells: .*refused"):
        push_model(model_folder, "tester/cells", endpoint="http://127.0.0.1:9", token="hf_any")


def test_the_hub_finds_the_metadata_valid(
    model_folder: Path, loopback_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", loopback_hub.endpoint)
    card = ModelCard.load(model_folder / "README.md")
    card.validate()
    card.data.license = ["mit"]
    with pytest.raises(ValueError, match="license"):
        card.validate()
    assert loopback_hub.requests == ["POST /api/validate-yaml"] * 2
