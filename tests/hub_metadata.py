"""What the Hub finds wrong with the metadata of a card."""

import re

import yaml


def metadata_errors(readme: str) -> list[str]:
    """What the Hub refuses in a card's YAML block: wrong types, and a model-index without its fields."""
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---\s", readme, re.DOTALL)
    try:
        metadata = yaml.safe_load(block[1]) if block else {}
    except yaml.YAMLError as error:
        return [f"metadata is not valid YAML: {error}"]
    strings = ("license", "library_name", "pipeline_tag", "license_name")
    errors = [f'"{key}" must be a string' for key in strings if not isinstance(metadata.get(key, ""), str)]
    for key, kind in {"tags": str, "datasets": str, "metrics": str, "widget": dict}.items():
        values = metadata.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            errors.append(f'"{key}" must be an array')
    try:
        for result in [result for model in metadata.get("model-index", []) for result in model["results"]]:
            _ = result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]
            _ = [(metric["type"], metric["value"]) for metric in result["metrics"]]
    except (KeyError, TypeError) as error:
        errors.append(f'"model-index" is malformed: {error}')
    return errors
