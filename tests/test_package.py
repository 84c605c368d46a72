"""The front door: light to open, and every name behind it."""

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest
from transformers import AutoConfig

import hf_cells

LIGHT = """
import sys
import hf_cells
heavy = {"torch", "transformers", "datasets", "numpy", "scipy", "PIL", "accelerate", "matplotlib"} & set(sys.modules)
assert not heavy, f"import hf_cells imports {sorted(heavy)}"
assert set(hf_cells.__all__) <= set(dir(hf_cells))
hf_cells.CellsError
assert "torch" not in sys.modules
hf_cells.CellUNetSemanticConfig
from transformers import AutoConfig
from transformers.pipelines import PIPELINE_REGISTRY
assert AutoConfig.for_model("cell_unet_instance").model_type == "cell_unet_instance"
assert "cell-segmentation" in PIPELINE_REGISTRY.get_supported_tasks()
print("light")
"""


def test_import_is_light_and_a_model_name_registers():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.stdout.strip() == "light", done.stderr[-2000:]


def test_every_public_name_is_there():
    assert hf_cells.__all__ == sorted(hf_cells.__all__)
    for name in hf_cells.__all__:
        assert getattr(hf_cells, name) is not None
    assert hf_cells.pipeline.__module__ == "hf_cells.models.loading"
    assert hf_cells.load_dataset.__module__ == "hf_cells.data.loading"


def test_public_names_are_these():
    """Taking one away, or adding one, is a decision."""
    assert set(hf_cells.__all__) == {
        "CellClassificationConfig",
        "CellClassificationImageProcessor",
        "CellForImageClassification",
        "CellInstanceImageProcessor",
        "CellSegmentator",
        "CellSemanticImageProcessor",
        "CellUNetForInstanceSegmentation",
        "CellUNetForSemanticSegmentation",
        "CellUNetInstanceConfig",
        "CellUNetSemanticConfig",
        "CellsError",
        "__version__",
        "label_cell",
        "label_nuclei",
        "load_dataset",
        "pipeline",
        "save_model_repository",
        "simulate_dsb2018",
    }


def test_version_is_the_installed_one():
    assert hf_cells.__version__ == version("hf-cells")


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'pipelines'"):
        _ = hf_cells.pipelines


def test_importing_the_models_again_is_safe(monkeypatch):
    import hf_cells.models as models

    again = []
    monkeypatch.setattr(models.PIPELINE_REGISTRY, "register_pipeline", lambda *_, **__: again.append(1))
    importlib.reload(models)
    assert not again  # transformers would warn of a task that is registered twice
    config = AutoConfig.for_model("cell_unet_semantic")
    assert type(config) is models.CellUNetSemanticConfig
