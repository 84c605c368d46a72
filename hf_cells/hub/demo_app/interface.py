"""The page itself, in Gradio: drop an image, see what the model makes of it, take the files home."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from ...inference.explain_pictures import shown
from .answers import COLUMNS, classify, read_upload, segment
from .loading import Settings

RESEARCH_USE = "Research use only; not a medical device; not validated on your scanner, stain or population."
_BEST = "what the model decides for"
_MOST_ROWS = 500
_KEEP_SECONDS = 3600  # uploads and results are deleted after an hour
_FILE_TYPES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"]


def build(settings: Settings, pipe: Any, folder: Path) -> gr.Blocks:
    """Return the page of a model, not yet running. Its one API endpoint is `/predict`.

    Args:
        settings: Of the app.
        pipe: A `cell-classification` or `cell-segmentation` pipeline.
        folder: Where the examples of the settings are.
    """
    channels = pipe.image_processor.channel_names
    several = channels is not None and len(channels) > 1
    classifies = pipe.model.config.model_type == "cell_classification"
    with gr.Blocks(
        title=settings.title, analytics_enabled=False, delete_cache=(_KEEP_SECONDS, _KEEP_SECONDS)
    ) as page:
        gr.Markdown(f"# {settings.title}\n\n**{RESEARCH_USE}**")
        with gr.Row():
            with gr.Column(scale=1):
                files = gr.File(
                    label=f"Image{': one file of each channel, …_' + ', …_'.join(channels) if several else ''}",
                    file_count="multiple" if several else "single",
                    file_types=_FILE_TYPES,
                )
                choice = _class_choice(pipe) if classifies else _score_threshold(pipe)
                examples: list[Any] = [[str(folder / name) for name in names] for names in settings.examples]
                gallery = _thumbnails(examples, settings, channels)
                examples = examples if several else [paths[0] for paths in examples]
                gr.Markdown(
                    f"PNG, JPEG or TIFF, 8 or 16 bit, up to {settings.max_pixels / 1e6:g} million pixels and "
                    f"{settings.max_megabytes} MB. Images and results are deleted after an hour."
                )
            with gr.Column(scale=2):
                outputs, answer = (_classification if classifies else _segmentation)(pipe)

        def predict(files: Any, choice: Any) -> Any:
            if not files:
                return [None] * len(outputs)
            with _one_line(files):
                return answer(read_upload(files, settings.max_pixels, channels), choice)

        steps: dict[str, Any] = {"fn": predict, "inputs": [files, choice], "outputs": outputs}
        events = [
            files.upload,
            files.clear,
            choice.release if isinstance(choice, gr.Slider) else choice.input,
        ]
        gr.on(events, **steps, api_name="predict", concurrency_id="model", concurrency_limit=1)

        def choose(event: gr.SelectData) -> Any:
            return examples[event.index]

        def open_with(request: gr.Request) -> Any:
            """A link that ends in /?example=1 shows the first example."""
            number = str(dict(request.query_params).get("example", ""))
            wanted = int(number) - 1 if number.isdecimal() else -1
            return examples[wanted] if 0 <= wanted < len(examples) else None

        hidden: dict[str, Any] = {"api_visibility": "private"}
        chosen = [page.load(open_with, None, files, **hidden)]
        chosen += [gallery.select(choose, None, files, **hidden)] if gallery is not None else []
        for event in chosen:
            event.then(**steps, **hidden, concurrency_id="model", concurrency_limit=1)
    return page


def run(settings: Settings, pipe: Any, folder: Path, **options: Any) -> Any:
    """Serve the page; `options` are those of `gradio.Blocks.launch`."""
    return build(settings, pipe, folder).launch(
        max_file_size=f"{settings.max_megabytes}mb", allowed_paths=[str(folder / "examples")], **options
    )


def _class_choice(pipe: Any) -> gr.Dropdown:
    labels = [name for _, name in sorted(pipe.model.config.id2label.items(), key=lambda item: int(item[0]))]
    return gr.Dropdown([_BEST, *labels], value=_BEST, label="Heat map of")


def _score_threshold(pipe: Any) -> gr.Slider:
    instances = pipe.model.config.model_type.endswith("instance")
    return gr.Slider(0, 1, 0, step=0.05, label="Least score of an object", visible=instances)


def _classification(pipe: Any) -> tuple[list[Any], Any]:
    calibrated = getattr(pipe.model.config, "calibration_temperature", None) not in (None, 1.0)
    label = "Calibrated probabilities" if calibrated else "Probabilities (the model is not calibrated)"
    scores = gr.Label(label=label, num_top_classes=min(10, pipe.model.config.num_labels))
    decision = gr.Markdown()
    with gr.Row():
        picture = gr.Image(label="Image", interactive=False, format="png")
        heat = gr.Image(label="Heat map", interactive=False, format="png")
    caption = gr.Markdown()

    def answer(image: Any, choice: str) -> Any:
        found = classify(pipe, image, None if choice == _BEST else choice)
        return found.scores, found.decision, found.picture, found.heat, f"Heat map: {found.caption}."

    return [scores, decision, picture, heat, caption], answer


def _segmentation(pipe: Any) -> tuple[list[Any], Any]:
    semantic = not pipe.model.config.model_type.endswith("instance")
    summary = gr.Markdown()
    with gr.Row():
        overlay = gr.Image(label="Objects", interactive=False, format="png", height=640)
        classes = gr.Image(label="Classes", interactive=False, format="png", height=640, visible=semantic)
    files = gr.File(label="Label image (16-bit PNG), table (CSV)", file_count="multiple", interactive=False)
    sizes = gr.Plot(label="Sizes")
    table = gr.Dataframe(headers=list(COLUMNS), label="Objects", interactive=False, max_height=320)
    results = tempfile.TemporaryDirectory(prefix="cells-demo-")  # deleted when the page is

    def answer(image: Any, threshold: float) -> Any:
        found = segment(pipe, image, float(threshold), _fresh_folder(Path(results.name)))
        more = (
            f"\n\nThe table shows the first {_MOST_ROWS}; the CSV has all."
            if len(found.rows) > _MOST_ROWS
            else ""
        )
        paths = [str(path) for path in found.files]
        return found.summary + more, found.overlay, found.classes, paths, found.sizes, found.rows[:_MOST_ROWS]

    return [summary, overlay, classes, files, sizes, table], answer


def _fresh_folder(root: Path) -> Path:
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > _KEEP_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root))


def _thumbnails(examples: list[list[str]], settings: Settings, channels: Any) -> gr.Gallery | None:
    """Pictures to choose an example by; drawn here, for browsers cannot show a 16-bit TIFF."""
    if not examples:
        return None
    pictures = [shown(read_upload(paths, settings.max_pixels, channels)) for paths in examples]
    return gr.Gallery(
        pictures,
        label="Examples",
        columns=2,
        allow_preview=False,
        interactive=False,
        format="png",
        buttons=[],
    )


@contextmanager
def _one_line(files: Any) -> Iterator[None]:
    """Show what is wrong with an image in one line that names it as the person does."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        for path in [files] if isinstance(files, str) else files:
            message = message.replace(str(path), Path(path).name)
        raise gr.Error(message, duration=None, print_exception=False) from None
