"""What an app is about, and its model: by hf_cells where that is installed, else by the model's own code."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Settings:
    """Content of `settings.json` beside the app.

    Attributes:
        model: Repository on the Hub, or a folder; a relative one is beside the settings.
        revision: Branch, tag or commit of the repository.
        title: Heading of the page.
        examples: Of each example its image files, beside the settings: one, or one of each channel.
        max_pixels: Larger images are refused.
        max_megabytes: Larger files are refused.
    """

    model: str
    title: str
    revision: str | None = None
    examples: list[list[str]] = field(default_factory=list)
    max_pixels: int = 25_000_000
    max_megabytes: int = 100

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Read the settings of an app."""
        return cls(**json.loads((folder / SETTINGS).read_text("utf-8")))

    def write(self, folder: Path) -> None:
        """Write them where `read` looks."""
        (folder / SETTINGS).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def load(settings: Settings, folder: Path) -> Any:
    """Return the pipeline of the model that the settings of an app name.

    A private repository needs the Space's secret `HF_TOKEN`, or `hf auth login` on an own machine.
    """
    beside = folder / settings.model
    source = str(beside) if beside.is_dir() else settings.model
    try:
        from hf_cells import pipeline as own_pipeline
    except ImportError:
        return _load_with_its_own_code(source, settings.revision)
    return own_pipeline(source, revision=settings.revision)


def _load_with_its_own_code(source: str, revision: str | None) -> Any:
    from huggingface_hub import hf_hub_download
    from transformers import pipeline

    local = Path(source, "config.json")
    path = str(local) if local.is_file() else hf_hub_download(source, "config.json", revision=revision)
    task = next(iter(json.loads(Path(path).read_text("utf-8"))["custom_pipelines"]))
    return pipeline(task, model=source, revision=revision, trust_remote_code=True)
