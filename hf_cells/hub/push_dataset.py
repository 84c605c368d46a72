"""Publish a dataset as Parquet that plain `datasets.load_dataset("owner/name")` reads, with a full card."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

from ..data.audit import leak_report, published_leak
from ..data.prepare import Terms, prepare, render_card, terms_of
from ..errors import CellsError
from .push import check_repo_id
from .push_dataset_picture import draw_samples
from .push_upload import one_line, upload_files
from .safety import identifying, refuse_secrets

SAMPLE = "figures/sample.png"


def push_dataset(
    name: str | Path,
    repo_id: str,
    config: str | None = None,
    *,
    data_dir: str | Path | None = None,
    licence: str | None = None,
    allow_restricted: bool = False,
    private: bool = True,
    dry_run: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
    revision: str | None = None,
    tag: str | None = None,
    cache_dir: str | Path | None = None,
    num_proc: int | None = None,
    **config_kwargs: Any,
) -> str | dict[str, int]:
    """Write a dataset as Parquet, audit it, describe it on a card, check that it names nobody, and upload it.

    Args:
        name: A registered dataset, or an own folder, as in `load_dataset`.
        repo_id: `owner/name`, created when it is not there. It holds one configuration.
        config: As in `load_dataset`.
        data_dir: As in `load_dataset`.
        licence: Licence under which you publish your own folder, as the Hub spells it: "cc-by-4.0".
        allow_restricted: Publish what its terms do not let everybody pass on.
        private: Whether a NEW repository is private.
        dry_run: Do all but the upload.
        endpoint: URL of the Hub; the client's own setting by default.
        token: Access token; by default the one of `hf auth login`.
        revision: Branch, made from main when it is not there.
        tag: Name for the commit.
        cache_dir: As in `load_dataset`.
        num_proc: As in `load_dataset`.
        **config_kwargs: Options of the configuration.

    Returns:
        URL of the commit, or, in a dry run, the files with their bytes.

    Raises:
        CellsError: The terms forbid it; the data is bad; a name of an image or group looks like a person's; the
            repository holds another configuration; the Hub refuses or is out of reach.
    """
    check_repo_id(repo_id)
    terms = _terms(str(name), licence)
    if not terms.redistributable and not allow_restricted:
        raise CellsError(_refusal(str(name), terms))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "dataset"
        prepare(
            name,
            config,
            data_dir=data_dir,
            output_dir=folder,
            cache_dir=cache_dir,
            num_proc=num_proc,
            **config_kwargs,
        )
        splits = _stored(folder, Path(place) / "cache")
        _refuse_names(splits)
        _complete(str(name), folder, splits, terms, config, repo_id)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        refuse_secrets(folder, [path for path in files if not path.endswith(".parquet")])
        if dry_run:
            return {path: (folder / path).stat().st_size for path in files}
        _refuse_other_configuration(folder, repo_id, endpoint, token, revision)
        return upload_files(
            folder,
            repo_id,
            files,
            "dataset",
            private=private,
            endpoint=endpoint,
            token=token,
            revision=revision,
            tag=tag,
            message="Upload dataset with hf-cells",
            replaced="data/*",  # fewer shards than last time must not leave old ones behind
        )


def _terms(name: str, licence: str | None) -> Terms:
    terms = terms_of(name)
    if licence is None:
        return terms
    if terms.registered:
        raise CellsError(f"{name} has its own licence ({terms.license}); --license is for your own folders")
    return terms._replace(license=licence, redistributable=True)


def _refusal(name: str, terms: Terms) -> str:
    if not terms.registered:
        return (
            f"{name}: nothing says that these images may be published; if they are yours, name the licence "
            "(--license cc-by-4.0), or publish them with --allow_restricted"
        )
    source = f", see {terms.homepage}" if terms.homepage else ""
    return (
        f"{name} may not be passed on: its licence is {terms.license!r}, which does not clear it for "
        f"redistribution{source}; if you have the right, add --allow_restricted"
    )


def _stored(folder: Path, cache: Path) -> datasets.DatasetDict:
    splits = datasets.load_dataset(str(folder), cache_dir=str(cache))
    assert isinstance(splits, datasets.DatasetDict)
    return splits


def _refuse_names(splits: Mapping[str, datasets.Dataset]) -> None:
    """Refuse names that may name a person; the message repeats none of them."""
    for split, data in splits.items():
        for column, number, text in _names(data):
            if what := identifying(text):
                raise CellsError(
                    f"not sent: column {column} of the split {split}, row {number} ({text[:3]}…) holds {what}; "
                    "give the files numbers of your own, and keep the table of both to yourself"
                )


def _names(data: datasets.Dataset) -> Iterator[tuple[str, int, str]]:
    for column, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            stored = data.select_columns(column).cast_column(column, datasets.Image(decode=False))
            values = [path.as_py() for path in stored.data.column(column).combine_chunks().field("path")]
        elif feature == datasets.Value("string"):
            values = data[column]
        else:
            continue
        for number, text in enumerate(values):
            if text:
                yield column, number, text


def _complete(
    name: str, folder: Path, splits: datasets.DatasetDict, terms: Terms, config: str | None, repo_id: str
) -> None:
    """Write the full card: with the audit, and a picture where everybody may see one."""
    audit, known = leak_report(splits), published_leak(name, config)
    picture = None
    if terms.redistributable:
        draw_samples(splits, folder / SAMPLE)
        picture = SAMPLE
    card = (folder / "README.md").read_text("utf-8")
    title = DatasetCard(card).data.to_dict()["configs"][0]["config_name"]
    text = render_card(
        name,
        splits,
        config=title,
        terms=terms,
        audit={**audit, "published": known},
        picture=picture,
        repo_id=repo_id,
    )
    (folder / "README.md").write_text(text, "utf-8")


def _refuse_other_configuration(
    folder: Path, repo_id: str, endpoint: str | None, token: str | None, revision: str | None
) -> None:
    try:
        with one_line(folder, repo_id), tempfile.TemporaryDirectory() as cache:
            try:
                place = hf_hub_download(
                    repo_id,
                    "README.md",
                    repo_type="dataset",
                    endpoint=endpoint,
                    token=token,
                    revision=revision,
                    cache_dir=cache,
                )
            except (RepositoryNotFoundError, EntryNotFoundError):
                return
            there = _configurations(Path(place))
    except CellsError as error:
        if "Revision" in str(error) or "rev id" in str(error):  # the branch is yet to be made
            return
        raise
    ours = _configurations(folder / "README.md")
    if there and there != ours:
        raise CellsError(
            f"{repo_id} holds the configuration {', '.join(there)} already, and this is {', '.join(ours)}; "
            "choose another name for it"
        )


def _configurations(readme: Path) -> list[str]:
    configs = DatasetCard.load(readme).data.to_dict().get("configs") or []
    return [config["config_name"] for config in configs]
