"""The card of an export: that of the model, with the way to load this format and what it cannot hold."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...files import atomic_write
from ..card import read_json, render_card


def write_native_card(
    folder: Path,
    format: str,
    config: Mapping[str, Any],
    notes: Sequence[str],
    differences: Mapping[str, float],
) -> Path | None:
    """Write `README.md`; results.json gets the section `export`. Without results.json there is no card to write.

    Args:
        folder: The export, with its companions.
        format: Name of the format.
        config: Configuration of the model that was exported.
        notes: What the format cannot hold.
        differences: By image, how far the logits are from the original's.
    """
    path = folder / "results.json"
    if not path.exists():
        return None
    results = read_json(path, "write it with `hf-cells evaluate`")
    results["export"] = {"format": format, "differences": dict(differences), "notes": list(notes)}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    recipe = folder / "recipe.yaml"
    card = render_card(
        results,
        config={"model_type": config["model_type"], "architectures": config.get("architectures")},
        recipe=yaml.safe_load(recipe.read_text("utf-8")) if recipe.exists() else None,
        figures=[file.relative_to(folder).as_posix() for file in folder.glob("figures/*.png")],
        examples=sorted(file.relative_to(folder).as_posix() for file in folder.glob("examples/*.png")),
    )
    with atomic_write(folder / "README.md") as temporary:
        card.save(temporary)
    return folder / "README.md"
