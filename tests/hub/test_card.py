"""Model cards: what they say, and that a card which says something else is found out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from hf_cells.errors import CellsError
from hf_cells.hub.card import RESEARCH_USE, SECTIONS, check_card, render_card, write_card
from hf_cells.hub.tables import format_number, result_tables

INSTANCE = {"model_type": "cell_unet_instance", "architectures": ["CellUNetForInstanceSegmentation"]}


def render(results: dict[str, Any], config: dict[str, Any] = INSTANCE, **arguments: Any) -> ModelCard:
    return render_card(results, config=config, **{"recipe": None, "figures": [], **arguments})


def test_a_card_says_what_was_measured(results: dict[str, Any]) -> None:
    card = render(results, figures=["figures/curves.png", "figures/overlays.png"], repo_id="lab/nuclei")
    text = card.text
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert "its `dsb_score` is **0.612**, 95 % interval 0.580 to 0.645, n = 65." in text
    assert "| `dsb_score` | 0.612 | 0.580 to 0.645 | 65 |" in text
    assert "| `pq` | – | – | 65 |" in text
    assert "| `objects_true` | 4,152 | – | 65 |" in text
    assert "| fluorescence | 50 | 0.701 (0.660 to 0.740) |" in text
    assert "| other | 0.790 | – |" in text
    assert "Weakest stratum: histology, with `dsb_score` 0.346." in text
    assert "Unit of the split: image; 65 of them in the test split." in text
    assert "found none of them on both sides" in text
    assert "`foreground` 0.550, `min_size` 12" in text
    assert "Temperature: 1.300" in text
    assert "Time: 4,322 s." in text
    assert f"> **{RESEARCH_USE}**" in text
    assert 'hf_cells.pipeline("lab/nuclei")' in text
    assert "\nhf-cells predict lab/nuclei photo.png\n" in text
    assert text.index("![overlays](figures/overlays.png)") < text.index("## How to load")
    assert text.index("![curves](figures/curves.png)") > text.index("## Results")
    assert "\n\n\n" not in text and "{{" not in text.replace("{{hf-cells contributors}}", "")


def test_a_changed_recipe_is_reproduced_from_the_repository(results: dict[str, Any]) -> None:
    results["run"]["recipe_changed"] = True
    assert "hf_cells.training --recipe recipe.yaml --data_dir DIR --seed 7\n" in render(results).text


def test_simulated_images_in_the_training_are_told(results: dict[str, Any]) -> None:
    plain, mixed = (
        render(results, recipe={"data": {"name": "dsb2018", "simulated_extra": count}}).text
        for count in (0, 8)
    )
    assert "Simulated images joined" in mixed and "Simulated images joined" not in plain


def test_metadata_survive_a_round_trip(results: dict[str, Any], tmp_path: Path) -> None:
    card = render(results, repo_id="lab/nuclei", examples=["examples/purple cells.png"])
    card.save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.to_dict() == card.data.to_dict()
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-segmentation",
    )
    assert data.datasets == ["dsb2018"] and "instance-segmentation" in data.tags
    assert data.widget == [{"src": "examples/purple cells.png", "example_title": "purple cells"}]
    assert data.model_name == "nuclei"
    # Undefined metrics and counts of objects are no result; values are not rounded.
    reported = {result.metric_type: result.metric_value for result in data.eval_results}
    assert reported == {"dsb_score": 0.61234, "dice_per_image": 0.9, "mean_iou": 0.75}
    assert {(r.dataset_type, r.dataset_config, r.dataset_split) for r in data.eval_results} == {
        ("dsb2018", "instance", "test")
    }


def test_few_results_are_enough() -> None:
    results = {
        "dataset": {"name": "mine"},
        "metrics": {"accuracy": {"value": 0.5}},
        "strata": None,
        "run": None,
    }
    card = render(results, {"architectures": ["ResNetForImageClassification"]})
    assert card.data.pipeline_tag == "image-classification"
    assert (card.data.license, card.data.license_name) == ("other", "data-unknown")
    assert "| `accuracy` | 0.500 | – | – |" in card.text
    assert "No leak check was recorded" in card.text
    assert "No threshold was tuned" in card.text and "The probabilities are not calibrated" in card.text
    assert "hf_cells.training --recipe recipe.yaml --data_dir DIR\n" in card.text
    assert "evaluate your-name/your-model --dataset DIR --split test --output results.json\n" in card.text
    assert "None" not in card.text and "Undefined" not in card.text and "Per stratum" not in card.text


def commands(text: str) -> list[str]:
    return text.partition("## Reproduce")[2].partition("```bash\n")[2].partition("\n```")[0].splitlines()


def test_the_commands_make_the_numbers_again(results: dict[str, Any]) -> None:
    results["split"] |= {"options": {"split_by": "modality", "project_table": None}, "limit": None}
    recipe = {"evaluation": {"test_time_augmentation": True}}
    assert commands(render(results, recipe=recipe, repo_id="lab/nuclei").text) == [
        "accelerate launch -m hf_cells.training --recipe dsb2018_instance --data_dir DIR --seed 7",
        "hf-cells evaluate lab/nuclei --dataset dsb2018 --data_dir DIR --option split_by=modality --split test "
        "--test_time_augmentation --output results.json",
    ]
    # What was measured last says how, whatever the recipe says; a part of a split is said to be one.
    results |= {"evaluation": {"test_time_augmentation": False}}
    results["split"] |= {"name": "test[:5]", "limit": 5, "options": {}}
    assert commands(render(results, recipe=recipe, repo_id="lab/nuclei").text)[1] == (
        "hf-cells evaluate lab/nuclei --dataset dsb2018 --data_dir DIR --split test --limit 5 --output results.json"
    )


def test_simulated_data_are_simulated_again(results: dict[str, Any]) -> None:
    results["dataset"]["simulated"] = True
    results["run"] |= {"recipe": "quickstart", "seed": 0}
    made = {"n_train": 96, "size": [256, 320], "looks": ["a", "b"]}
    lines = commands(render(results, recipe={"seed": 3, "data": {"simulate": made}}).text)
    assert lines[:2] == [
        "hf-cells simulate dsb2018 --seed 3 --n_train 96 --size 256x320 --looks a,b --output_dir DIR",
        "accelerate launch -m hf_cells.training --recipe quickstart --seed 0",
    ]
    assert "--dataset dsb2018 --data_dir DIR --split test" in lines[2]


def test_settings_of_one_simulator_stand_at_the_end(results: dict[str, Any]) -> None:
    results["dataset"] |= {"simulated": True, "name": "glomeruli"}
    made = {"n_train": 96, "size_range": [64, 160]}
    line = commands(render(results, recipe={"seed": 3, "data": {"simulate": made}}).text)[0]
    assert line == "hf-cells simulate glomeruli --seed 3 --n_train 96 --output_dir DIR 'size_range=[64, 160]'"


@pytest.mark.parametrize("leaks", [3, ["a", "b", "c"]])
def test_a_leaky_split_is_said_to_be_one(results: dict[str, Any], leaks: Any) -> None:
    results["split"] |= {"unit": "slide", "leaks": leaks}
    text = render(results).text
    assert "**Warning: the leak check found 3 on both sides" in text
    assert "The split is leaky" in text and "found none" not in text


@pytest.mark.parametrize(
    ("licence", "own", "expected"),
    [("CC0-1.0", None, "apache-2.0"), ("cc-by-nc-nd-4.0", None, "other"), ("cc0-1.0", "mit", "mit")],
)
def test_weights_are_free_only_where_the_data_are(
    results: dict[str, Any], licence: str, own: str | None, expected: str
) -> None:
    results["dataset"]["license"] = licence
    if own:
        results["license"] = own
    card = render(results)
    assert card.data.license == expected
    assert card.data.get("license_name") == (f"data-{licence}" if expected == "other" else None)


def test_loading_without_the_package_follows_the_configuration(results: dict[str, Any]) -> None:
    native = render(results, {"architectures": ["SegformerForSemanticSegmentation"]}).text
    assert 'pipeline("image-segmentation", model="your-name/your-model")' in native
    assert "trust_remote_code" not in native and 'result["semantic_mask"]' in native
    own = render(results, {**INSTANCE, "auto_map": {}, "custom_pipelines": {"cell-segmentation": {}}}).text
    assert 'pipeline("cell-segmentation", model="your-name/your-model", trust_remote_code=True)' in own
    assert 'result["instance_labels"]' in own


def test_the_recipe_is_shown_without_the_folders_of_a_machine(card_folder: Path) -> None:
    text = write_card(card_folder).read_text()
    assert "learning_rate: 0.003" in text and "someone" not in text


def test_pictures_may_have_spaces_in_their_names(card_folder: Path) -> None:
    (card_folder / "figures" / "best and worst.png").write_bytes(b"")
    assert "![best and worst](figures/best%20and%20worst.png)" in write_card(card_folder).read_text()
    assert check_card(card_folder) == []


def test_numbers_are_formatted_by_one_rule() -> None:
    values = [0.61234, 1.0, 0, 4152.0, 1234567, 12.5, None, float("nan"), True, "otsu"]
    expected = ["0.612", "1.000", "0", "4,152", "1,234,567", "12.500", "–", "–", "True", "otsu"]
    assert [format_number(value) for value in values] == expected


def test_classes_may_hold_numbers_or_entries() -> None:
    entry = {"value": 0.5, "ci": [0.4, 0.6]}
    results = {"metrics": {"accuracy": {"value": 0.9, "per_class": {"a|b": 0.25, "c": entry}}}}
    assert result_tables(results)[1].rows == [["a/b", "0.250"], ["c", "0.500 (0.400 to 0.600)"]]


@pytest.mark.parametrize("broken", [{}, {"dataset": {"name": "x"}, "metrics": {"pq": {"value": None}}}])
def test_results_without_a_number_make_no_card(broken: dict[str, Any]) -> None:
    with pytest.raises(CellsError, match=r"results\.json names no dataset or holds no metric"):
        render(broken)


def test_missing_and_broken_files_are_named(card_folder: Path) -> None:
    (card_folder / "recipe.yaml").write_text("data: [")
    with pytest.raises(CellsError, match=r"cannot read .*recipe\.yaml"):
        write_card(card_folder)
    (card_folder / "results.json").write_text("[1]")
    with pytest.raises(
        CellsError, match=r"results\.json holds no JSON object; write it with `hf-cells evaluate`"
    ):
        write_card(card_folder)
    (card_folder / "results.json").unlink()
    with pytest.raises(CellsError, match=r"results\.json is missing; write it with `hf-cells evaluate`"):
        write_card(card_folder)
    assert not (card_folder / "README.md").exists()


def test_a_fresh_card_passes_and_so_does_an_own_paragraph(card_folder: Path) -> None:
    readme = write_card(card_folder, "lab/nuclei")
    assert check_card(card_folder) == check_card(readme) == []
    own = "## Thanks\n\nFor 12.75 cups of [tea](https://example.org).\n\n| a | 0.123 |\n"
    readme.write_text(readme.read_text() + own)
    assert check_card(card_folder) == []


def edit(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            edit("| `dsb_score` | 0.612 |", "| `dsb_score` | 0.712 |"),
            "'`dsb_score` | 0.712 | 0.580 to 0.645 | 65'",
        ),
        (edit("| `dsb_score` | 0.612 |", "| `dsb_score` | 0.900 |"), "is not what results.json says"),
        (edit("0.346 |", "0.701 |"), "table row 'histology | 15 | 0.701'"),
        (edit("| other | 0.790 | – |\n", ""), "'other | 0.790 | –' of results.json is missing"),
        (edit("is **0.612**", "is **0.912**"), "0.912 does not appear in results.json"),
        (edit("Temperature: 1.300", "Temperature: 1.100"), "1.100 does not appear in results.json"),
        (edit("value: 0.61234", "value: 0.71234"), "model-index gives dsb_score as 0.71234"),
        (
            edit("- type: dsb_score", "- type: made_up"),
            "model-index gives made_up as 0.61234, results.json as None",
        ),
        (edit("figures/curves.png", "figures/gone.png"), "figures/gone.png is linked and missing"),
        (edit("## Limits and out-of-scope use", "## Strengths"), "'Limits and out-of-scope use' is missing"),
        (lambda text: text.replace("not a medical device; ", ""), "does not say 'Research use only"),
        (edit("license: apache-2.0\n", ""), "metadata: license is missing"),
        (edit("tags:\n- hf-cells\n", "tags:\n- 5\n"), "metadata: tags is missing or no list of texts"),
        (edit("tags:\n", "tags: [\n"), "cannot be read"),
        (edit("    dataset:\n      name: dsb2018\n", "    dataset:\n      title: dsb2018\n"), "model_index"),
    ],
)
def test_a_card_that_was_changed_is_found_out(
    card_folder: Path, change: Callable[[str], str], problem: str
) -> None:
    readme = write_card(card_folder)
    readme.write_text(change(readme.read_text()))
    problems = check_card(card_folder)
    assert any(problem in line for line in problems), problems
    assert all(line.startswith(str(readme)) and "\n" not in line for line in problems)


def test_a_stale_card_is_found_out(card_folder: Path, results: dict[str, Any]) -> None:
    write_card(card_folder)
    results["metrics"]["dsb_score"]["value"] = 0.5
    (card_folder / "results.json").write_text(json.dumps(results))
    # The old row, the new row, the summary, the metadata, and the file for the Hub.
    assert len(check_card(card_folder)) == 5


def test_a_card_needs_itself_and_its_results(card_folder: Path) -> None:
    assert "README.md cannot be read (No such file or directory)" in check_card(card_folder)[0]
    write_card(card_folder)
    (card_folder / "results.json").unlink()
    assert "results.json is missing" in check_card(card_folder)[0]


def test_the_hubs_file_of_results_follows_results_json(card_folder: Path, results: dict[str, Any]) -> None:
    write_card(card_folder)
    path = card_folder / ".eval_results" / "hf-cells.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    first = entries[0]
    assert (first.dataset_id, first.task_id, first.value) == ("dsb2018", "instance/test/dsb_score", 0.61234)
    assert first.notes == "95 % interval 0.580 to 0.645; n = 65; split by image"
    assert "pq" not in " ".join(entry.task_id for entry in entries)  # without a value
    assert check_card(card_folder) == []
    path.write_text(path.read_text().replace("0.61234", "0.71234"))
    assert any(".eval_results/hf-cells.yaml" in problem for problem in check_card(card_folder))


def test_the_base_model_is_named_where_training_began_with_one(results: dict[str, Any]) -> None:
    def recipe(weights: Any) -> dict[str, Any]:
        return {"model": {"config": {"backbone": "resnet18"}, "pretrained_backbone": weights}}

    assert render(results, recipe=recipe(True)).data.base_model == "timm/resnet18"
    assert render(results, recipe=recipe("weights_folder")).data.base_model is None
    assert render(results).data.base_model is None


def test_time_and_energy_stand_with_their_assumption(results: dict[str, Any], card_folder: Path) -> None:
    results["run"]["energy"] = {"watt_hours": 17.12, "assumes": "10 W for each of 2 cores; not metered"}
    (card_folder / "results.json").write_text(json.dumps(results))
    text = write_card(card_folder).read_text()
    assert "Energy: about 17.120 Wh (10 W for each of 2 cores; not metered)." in text
    assert check_card(card_folder) == []
