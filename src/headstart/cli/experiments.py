"""`headstart experiments|show|validate|schema`: look at studies without running them."""

import json
from typing import Annotated

import typer

Source = Annotated[str, typer.Argument(help="A shipped experiment's name, or a YAML file.")]


def experiments() -> None:
    """List the studies that ship with Headstart."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from headstart.config.load import read_yaml, shipped_experiments

    table = Table()
    for column in ("name", "what it studies", "profiles"):
        table.add_column(column, no_wrap=column == "name")
    for name, path in shipped_experiments().items():
        raw = read_yaml(path)
        table.add_row(name, escape(str(raw.get("title", ""))), ", ".join(raw.get("profiles", {})))
    Console().print(table)


def show(experiment: Source) -> None:
    """Print a study's file, with its header: what it reproduces, how, and the expected figure."""
    from headstart.config.load import find_experiment

    typer.echo(find_experiment(experiment).read_text(encoding="utf-8"), nl=False)


def validate(
    experiment: Source,
    profile: Annotated[str | None, typer.Option(help="Check with this profile applied.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("-s", "--set", help="A change: dotted.key=value.")
    ] = None,
) -> None:
    """Check a study's file: every problem at once, each with its key and what was expected."""
    from headstart.config.load import find_experiment, load_experiment, read_yaml

    overrides = tuple(set_ or ())
    profiles: list[str | None] = [profile]
    if profile is None:
        profiles += list(read_yaml(find_experiment(experiment)).get("profiles", {}))
    for name in profiles:
        study = load_experiment(experiment, profile=name, overrides=overrides)
        parts = f"{len(study.parts)} part{'s' if len(study.parts) != 1 else ''}"
        typer.echo(f"{experiment}{f' ({name})' if name else ''}: valid, {parts}")


def schema() -> None:
    """Print the JSON schema of experiment files, for editors to complete and check them."""
    from headstart.config.schema import Experiment

    typer.echo(json.dumps(Experiment.model_json_schema(), indent=2))
