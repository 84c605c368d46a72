"""The wheel carries scripts, recipes and templates, and works from any folder as the editable install does."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

CHECK = """
import sys
import hf_cells
from hf_cells.data.registry import dataset_names, script_sources, builder_class
from hf_cells.hub.card import _template
from hf_cells.training.recipe import load_recipe, recipe_names

print(hf_cells.__file__)
assert {"dsb2018", "glomeruli", "hep2"} <= set(dataset_names()), dataset_names()
assert all(path.exists() for name in dataset_names() for path in script_sources(builder_class(name)))
assert {"quickstart", "dsb2018_instance"} <= set(recipe_names())
assert load_recipe("quickstart")["data"]["simulate"]["n_train"] > 0
_template()
assert not {"tests", "train", "dataset_scripts", "benchmarks"} & set(sys.modules)
for name in ("tests", "train", "dataset_scripts"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} is importable from outside the project")
"""


def test_wheel_is_whole_and_works_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    expected = {
        "hf_cells/py.typed",
        "hf_cells/dataset_scripts/dsb2018.py",
        "hf_cells/dataset_scripts/_reading.py",
    }
    expected |= {f"hf_cells/recipes/{path.name}" for path in (ROOT / "hf_cells/recipes").glob("*.yaml")}
    expected |= {
        f"hf_cells/recipes/accelerate/{path.name}"
        for path in (ROOT / "hf_cells/recipes/accelerate").glob("*.yaml")
    }
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "hf_cells").rglob("*.py")}
    assert expected <= names, expected - names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"hf_cells"}

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (str(tmp_path / "site"), None):  # the wheel, then whatever this environment has installed
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"PYTHONPATH": path} if path else {}
        done = subprocess.run(
            [sys.executable, "-c", CHECK],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().startswith(path or "/")
