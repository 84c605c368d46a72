"""The verb `push-dataset`."""

from typing import Annotated

import typer

from .arguments import Config, DataDir, Settings, config_and_options


def push_dataset(
    name: Annotated[str, typer.Argument(help="Name of a dataset, or a folder of your own.")],
    repo_id: Annotated[str, typer.Option("--repo_id", help="owner/name on the Hub; made where missing.")],
    config: Config = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of your own images, such as cc-by-4.0.")
    ] = None,
    allow_restricted: Annotated[
        bool, typer.Option("--allow_restricted", help="Publish what its terms do not let everybody pass on.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Make a NEW repository public.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do all but the upload, list the files.")
    ] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch; main by default.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Name for this version, such as v1.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="URL of another Hub.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes that decode.")] = None,
) -> None:
    """Publish a dataset on the Hub as Parquet with a full card, private unless told otherwise.

    `datasets.load_dataset("owner/name")` reads it. The card tells licence, citation, splits, groups, classes and what
    an audit found. Nothing is sent when the terms forbid it, or a name of an image looks like that of a person.

    \b
    Example:
      hf-cells push-dataset dsb2018 --repo_id my-lab/nuclei --data_dir stage1_train.zip instance split_seed=1
      hf-cells push-dataset cells/ --repo_id my-lab/cells --license cc-by-4.0 --dry-run
    """  # noqa: D301
    from ..hub.push_dataset import push_dataset as push
    from ..quiet import quiet_libraries
    from .publish import list_files

    quiet_libraries()
    config, options = config_and_options(name, config, settings)
    sent = push(
        name,
        repo_id,
        config,
        data_dir=data_dir,
        licence=licence,
        allow_restricted=allow_restricted,
        private=not public,
        dry_run=dry_run,
        endpoint=endpoint,
        revision=revision,
        tag=tag,
        num_proc=workers,
        **options,
    )
    typer.echo(sent if isinstance(sent, str) else list_files(sent))
