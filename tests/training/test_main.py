"""The command line, from raw files to a model folder with a card."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from training_runs import Run, assert_same_tensors, main_here, pair

import hf_cells
from hf_cells.errors import CellsError
from hf_cells.evaluation import read_results
from hf_cells.hub.card import check_card
from hf_cells.simulate import simulate_nuclei
from hf_cells.training.main import main, make_parser, use_data
from hf_cells.training.recipe import load_recipe

QUICK = ["training.samples_per_epoch=16", "training.batch_size=4", "training.threads=1", "training.epochs=2"]
QUICK += [
    "augmentation.size=32",
    "model.config.hidden_sizes=[8, 8]",
    "evaluation.n_resamples=20",
    "training.workers=0",
]


@pytest.fixture(scope="module")
def quickstart(cache, tmp_path_factory):
    """The quickstart recipe, smaller, from nothing to a model folder; returns the run folder and what was printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    arguments = ["--output_dir", str(folder / "run"), "--seed", "3", *QUICK, "training.schedule.warmup=2"]
    arguments += ["data.simulate.n_train=20", "data.simulate.size=[64, 64]", "training.validate_every=1"]
    process = Run(folder / "log", main_here, cache, *arguments)
    return folder / "run", process.check()


def test_results_figures_and_card(quickstart):
    run, _ = quickstart
    results = read_results(run / "results.json")
    assert results["dataset"]["name"] == "dsb2018" and results["dataset"]["simulated"] is True
    assert results["split"]["name"] == "test" and results["split"]["leaks"] == 0
    assert results["run"]["recipe"] == "quickstart" and results["run"]["seed"] == 3
    assert results["run"]["epochs"] == 2 and results["run"]["processes"] == 1
    assert results["decision"]["chosen_on"] == "validation"
    assert 0 <= results["metrics"]["dsb_score"]["value"] <= 1
    for name in ("curves.png", "predictions.png"):
        with Image.open(run / "figures" / name) as figure:
            assert min(figure.size) > 100
    assert check_card(run / "model") == []
    assert {"results.json", "history.csv", "recipe.yaml"} <= {path.name for path in (run / "model").iterdir()}


def test_the_model_folder_predicts(quickstart):
    run, _ = quickstart
    pipe = hf_cells.pipeline(run / "model")
    best = load_file(run / "checkpoints" / "best.safetensors")
    for name, value in pipe.model.state_dict().items():
        assert torch.equal(value, best[name])
    pixels = simulate_nuclei(9, 0, (64, 80)).image
    found = pipe(pixels)
    assert found["instance_labels"].shape == (64, 80)
    assert len(found["scores"]) == found["instance_labels"].max()
    assert pipe.image_processor.thresholds_chosen_on == "validation"


def test_the_run_folder_reproduces_the_run(quickstart, cache, tmp_path):
    """recipe.yaml holds what `auto` chose, so the same command gives the same weights."""
    run, _ = quickstart
    saved = load_recipe(run / "recipe.yaml")
    assert saved["training"]["precision"] in ("fp32", "bf16") and saved["seed"] == 3
    assert saved["output_dir"] is None
    published = yaml.safe_load((run / "model" / "recipe.yaml").read_text())
    assert published["data"]["data_dir"] is None
    again = tmp_path / "again"
    Run(
        tmp_path / "log", main_here, cache, "--recipe", str(run / "recipe.yaml"), "--output_dir", str(again)
    ).check()
    assert_same_tensors(*(load_file(folder / "model" / "model.safetensors") for folder in (run, again)))
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, again)]
    assert results[0]["dataset"]["fingerprint"] == results[1]["dataset"]["fingerprint"]


def test_what_a_person_sees(quickstart):
    run, text = quickstart
    assert "Traceback" not in text and "Warning" not in text
    assert "epoch 1/2  loss " in text and "epoch 2/2  loss " in text and "images/s" in text
    assert "training in " in text  # what auto chose, and how fast
    assert "dsb_score" in text.splitlines()[-2]
    assert text.splitlines()[-1] == f"everything is in {run} (model and card: {run}/model)"


def test_tensorboard_has_the_curves(quickstart):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (quickstart[0] / "hf-cells").glob("events.*")
    reader = EventAccumulator(str(events)).Reload()
    assert {"train_loss", "validation/loss", "validation/dsb_score", "learning_rate"} <= set(
        reader.Tags()["scalars"]
    )
    assert [event.step for event in reader.Scalars("validation/loss")] == [4, 8]


def write_own_folder(root, count=16):
    """An own folder of grey 16-bit images and binary masks."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(count):
        labels = np.zeros((40, 48), bool)
        labels[4 + number : 14 + number, 10:30] = True
        noise = np.random.default_rng(number).integers(0, 900, labels.shape)
        Image.fromarray((noise + 30_000 * labels).astype(np.uint16)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels.astype(np.uint8) * 255).save(root / "masks" / f"{number}.png")
    return root


def test_an_own_folder_semantic_in_two_processes(cache, tmp_path):
    """`--data_dir` of images/ and masks/; both processes end, one writes; no path of this machine is published."""
    data, run = write_own_folder(tmp_path / "my_cells"), tmp_path / "run"
    arguments = ["--recipe", "dsb2018_unet", "--data_dir", str(data), "--output_dir", str(run), *QUICK]
    arguments += ["data.options={}", "training.epochs=5", "training.optimizer.lr=1e-2"]
    texts = [one.check() for one in pair(tmp_path, "own", main_here, cache, *arguments)]
    assert "everything is in" in texts[0] and "everything is in" not in texts[1]
    results = read_results(run / "results.json")
    assert results["dataset"]["name"] == "my_cells" and results["run"]["processes"] == 2
    assert results["metrics"]["dice_per_image"]["value"] > 0.5
    assert check_card(run / "model") == []
    for path in (run / "model").rglob("*"):
        if path.suffix in (".yaml", ".json", ".md"):
            assert str(tmp_path) not in path.read_text(), path
    found = hf_cells.pipeline(run / "model")(data / "images" / "3.png")
    assert found["semantic_mask"].shape == (40, 48) and set(np.unique(found["semantic_mask"])) <= {0, 1}


def test_a_folder_that_holds_a_run_is_not_overwritten(quickstart, capsys):
    run, _ = quickstart
    before = (run / "recipe.yaml").read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(["--output_dir", str(run)])
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run} holds a run already; continue it with --resume {run}")
    assert (run / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--recipe", "none"], "no recipe 'none'; choose from"),
        (["--data_dir", "/no/such"], "/no/such: no such file or folder"),
        (["--resume", "/no/such"], "/no/such is no run folder"),
        (["training.epochz=1"], "unknown key training.epochz"),
        (["evaluation.metric=dsb"], "evaluation.metric='dsb' is unknown; choose from: loss, dsb_score"),
        (["model.type=unet"], "model.type='unet' is unknown; choose from: cell_unet_instance"),
        (["data.balance=colour"], "data.balance='colour' is no column"),
        (["data.config=semantic"], "cell_unet_instance learns from instance_labels"),
        (["augmentation.angle=3"], "augmentation.angle is unknown"),
        (["training.trackers=[none_such]"], "training.trackers"),
        (["training.precision=fp16"], "fp16 needs a GPU"),
        (["data.options.split_by=day"], "split_by='day'"),
    ],
)
def test_mistakes_are_one_line(recipe, tmp_path, capsys, arguments, message):
    source = [] if {"--recipe", "--resume"} & set(arguments) else ["--recipe", str(recipe)]
    with pytest.raises(SystemExit) as caught:
        main([*source, *arguments, *(["--output_dir", str(tmp_path / "run")] if source else [])])
    assert caught.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("error: ") and message in line


def test_debug_shows_the_cause():
    with pytest.raises(CellsError, match="no recipe 'none'"):
        main(["--recipe", "none", "--debug"])


def test_a_run_folder_that_cannot_be_made(recipe, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(["--recipe", str(recipe), "--output_dir", str(tmp_path / "file" / "run")])
    assert "cannot make the run folder" in capsys.readouterr().err


def test_nothing_to_resume(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe.read_text())
    with pytest.raises(SystemExit):
        main(["--resume", str(run)])
    assert (
        "holds no whole checkpoint to resume from; start it anew without --resume" in capsys.readouterr().err
    )


def test_a_simulation_that_was_cut_off_is_finished(recipe, cache, tmp_path):
    """A kill while the images are written leaves a part of them; the next start must not train on that part."""
    from hf_cells.training.setup import prepare

    settings = load_recipe(recipe, ["data.data_dir=", "data.simulate={n_train: 12, size: [48, 48]}"])
    hf_cells.simulate_dsb2018(tmp_path / "run" / "simulated", n_train=4, size=(48, 48), seed=0)
    os.remove(tmp_path / "run" / "simulated" / "simulated.csv")  # written last
    settings["output_dir"] = str(tmp_path / "run")
    _, splits = prepare(settings, None)
    assert sum(len(split) for split in splits.values()) == 12


def test_list_and_help(capsys):
    main(["--list"])
    assert "quickstart" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "accelerate launch train.py --recipe" in capsys.readouterr().out
    assert make_parser().parse_args([]).recipe == "quickstart"


def test_settings_may_stand_before_and_after_options():
    words = ["training.epochs=1", "--recipe", "hep2_best", "seed=3", "--data_dir", "d", "name=n"]
    options = make_parser().parse_intermixed_args(words)
    assert options.overrides == ["training.epochs=1", "seed=3", "name=n"] and options.data_dir == "d"


def test_data_dir_of_raw_files_and_of_an_own_folder(tmp_path, monkeypatch):
    """The stored paths are absolute, so that a resume from another folder finds the data."""
    own = write_own_folder(tmp_path / "own", 1)
    raw = tmp_path / "raw"
    raw.mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("dsb2018_instance")
    use_data(recipe, "raw")
    assert recipe["data"]["data_dir"] == str(raw) and recipe["data"]["name"] == "dsb2018"
    use_data(recipe, "own")
    assert recipe["data"]["name"] == str(own) and recipe["data"]["data_dir"] is None
    assert "split_by" not in recipe["data"]["options"]


def test_simulated_nuclei_join_own_images_on_request_only(tmp_path):
    own = write_own_folder(tmp_path / "own", 1)
    for asked, extra in ((), 0), (("data.simulated_extra=7",), 7):
        recipe = load_recipe("dsb2018_instance", asked)
        use_data(recipe, str(own), asked)
        assert recipe["data"]["simulated_extra"] == extra


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("training.precision=fp8", "training.precision='fp8' is unknown"),
        ("augmentation.foo=2", "augmentation.foo is unknown"),
        ("model.config.foo=1", "model.config.foo is unknown"),
        ("evaluation.metric=foo", "evaluation.metric='foo' is unknown"),
    ],
)
def test_slips_are_told_before_nuclei_are_simulated(recipe, tmp_path, monkeypatch, slip, message):
    from hf_cells.training.segmentation import InstanceTask
    from hf_cells.training.setup import prepare

    monkeypatch.setattr(InstanceTask, "extra_rows", lambda *_: pytest.fail("simulated for nothing"))
    settings = load_recipe(recipe, [slip])
    settings["output_dir"] = str(tmp_path / "run")
    with pytest.raises(CellsError, match=message):
        prepare(settings, None)


def test_validation_images_are_never_augmented(recipe, tmp_path, monkeypatch):
    from hf_cells.data.augmentation import Augmentation
    from hf_cells.training import loop, setup

    settings = load_recipe(recipe, ["training.epochs=1"])
    settings["output_dir"] = str(tmp_path / "run")
    made, _ = setup.prepare(settings, None)
    calls = []
    augment, validate = Augmentation.__call__, loop.validate

    def counted(*arguments):
        calls.append("augment")
        return augment(*arguments)

    def watched(*arguments, **named):
        calls.append("validate")
        result = validate(*arguments, **named)
        calls.append("validated")
        return result

    monkeypatch.setattr(Augmentation, "__call__", counted)
    monkeypatch.setattr(loop, "validate", watched)
    loop.train(made)
    assert calls == ["augment"] * 12 + ["validate", "validated"]
