"""A written Space is whole: card, code that needs no package of ours, examples, and a model that loads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("gradio", reason="gradio is in the extra `demo`, which the tests do not need")

from hf_cells import CellClassificationConfig, CellForImageClassification, save_model_repository
from hf_cells.errors import CellsError
from hf_cells.hub.space import write_space
from hf_cells.hub.space_code import copy_modules
from hf_cells.models import CellClassificationImageProcessor

LABELS = {0: "dark", 1: "light"}


def save_classifier(folder: Path) -> Path:
    torch.manual_seed(0)
    config = CellClassificationConfig(
        hidden_sizes=[4, 8],
        num_channels=1,
        id2label=LABELS,
        label2id={name: key for key, name in LABELS.items()},
        decision_thresholds={"dark": 0.4, "light": 0.6},
    )
    processor = CellClassificationImageProcessor(num_channels=1, size={"height": 32, "width": 32})
    return save_model_repository(CellForImageClassification(config), processor, folder)


# Blocks the package, as on a machine that has never seen it, and asks the page's own functions.
STRANGER = """
import json, sys
sys.modules["hf_cells"] = None
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cells_app.answers import classify, read_upload
from cells_app.interface import build
from cells_app.loading import Settings, load
here = Path(sys.argv[1])
settings = Settings.read(here)
pipe = load(settings, here)
build(settings, pipe, here)
found = classify(pipe, read_upload(sys.argv[2], settings.max_pixels, None))
print(json.dumps([found.scores, found.decision, found.caption]))
"""


def test_a_space_answers_where_the_package_is_not_installed(tmp_path: Path) -> None:
    from hf_cells import pipeline

    model = save_classifier(tmp_path / "cells")
    (model / "examples").mkdir()
    image = np.random.default_rng(0).integers(0, 60_000, (40, 48), np.uint16)
    Image.fromarray(image).save(model / "examples" / "one.png")
    space = write_space(model, tmp_path / "space")
    path = space / "examples" / "one.png"
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(space), str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores, decision, caption = json.loads(done.stdout.splitlines()[-1])
    ours = {entry["label"]: entry["score"] for entry in pipeline(model)(str(path))}
    assert scores == pytest.approx(ours, abs=1e-6)
    assert "dark 0.4, light 0.6" in decision and "48 x 40 pixels, 1 channel, 16 bit" in decision
    assert "(CAM)" in caption

    text = (space / "README.md").read_text()
    card = yaml.safe_load(text.split("---")[1])
    assert card["sdk"] == "gradio" and card["app_file"] == "app.py" and "models" not in card
    assert f"gradio=={card['sdk_version']}" in (space / "requirements.txt").read_text()
    assert "Research use only" in text
    assert not any(
        str(tmp_path) in p.read_text("utf-8", "replace")
        for p in space.rglob("*")
        if p.suffix in (".json", ".md", ".py")
    )
    compile((space / "app.py").read_text(), "app.py", "exec")


def test_a_space_may_load_its_model_from_a_repository(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "cells")
    results = {"dataset": {"name": "hep2"}, "run": {"recipe": "hep2_best"}}
    (model / "results.json").write_text(json.dumps(results))
    for _ in range(2):  # an earlier one is replaced
        space = write_space(model, tmp_path / "space", repo_id="my-lab/cells")
    assert yaml.safe_load((space / "README.md").read_text().split("---")[1])["models"] == ["my-lab/cells"]
    settings = json.loads((space / "settings.json").read_text())
    assert settings["model"] == "my-lab/cells" and not (space / "model").exists()
    assert settings["examples"] == [[f"examples/simulated_{k}.png"] for k in (1, 2, 3, 4)]
    pictures = [np.asarray(Image.open(space / name)) for (name,) in settings["examples"]]
    assert all(picture.shape == (78, 78) and picture.std() > 5 for picture in pictures)


def test_secrets_do_not_go_into_a_space(tmp_path: Path) -> None:
    model = save_classifier(tmp_path / "cells")
    (model / "recipe.yaml").write_text("data_dir: /home/anna/cells\n")
    with pytest.raises(CellsError, match="recipe.yaml, line 1: holds an absolute path"):
        write_space(model, tmp_path / "space")
    assert not (tmp_path / "space").exists()


def test_what_is_no_model_or_no_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(CellsError, match="holds no config.json"):
        write_space(tmp_path / "other", tmp_path / "space")
    with pytest.raises(CellsError, match="exists and is no Space"):
        write_space(save_classifier(tmp_path / "cells"), tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_copied_modules_import_nothing_of_ours(tmp_path: Path) -> None:
    names = copy_modules("hf_cells.hub.demo_app.interface", tmp_path / "app")
    assert {"interface", "answers", "loading", "overlay", "image_reading", "class_activation"} <= set(names)
    for path in (tmp_path / "app").glob("*.py"):
        text = path.read_text()
        assert "from .." not in text and "from hf_cells." not in text, path.name
