"""`mamol evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mamol.cli.options import Overwrite, Run
from mamol.cli.show import bars, table, written


def evaluate(
    run: Run,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATASET", help="Another data set, tested wholly; default: the run's own test part."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="patterns: every combination of sensors; rate: a share of places is incomplete; pixel: holes in one sensor of a "
            "scene; degraded: noise, bias or a shift in one sensor.",
        ),
    ] = "patterns",
    file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", help="Write FILE.json, FILE.md and the plots in FILE_plots/."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Fit tree baselines on every pattern and score them too.")
    ] = True,
    overwrite: Overwrite = False,
) -> None:
    """Score a run under every combination of missing sensors, beside a random forest and boosted trees.

    Example: mamol evaluate runs/idtrees --out idtrees.json

    Example: mamol evaluate runs/idtrees --protocol rate --no-baselines
    """
    from mamol import api
    from mamol.errors import UsageError
    from mamol.evaluate.plots import PLOTS, draw_all
    from mamol.evaluate.report import as_markdown, as_text
    from mamol.files import must_not_exist, write_json, write_text

    plots = markdown = None
    if file is not None:
        if file.suffix.lower() != ".json":
            raise UsageError(f"scores are JSON, with Markdown and plots beside: --out must end in .json; got '{file}'.")
        markdown, plots = file.with_suffix(".md"), file.with_name(f"{file.stem}_plots")
        for path in (file, markdown, plots):
            must_not_exist(path, overwrite, PLOTS)
    with bars() as progress:
        scores = api.evaluate_run(run, data, protocol, api.BASELINES if baselines else (), progress)
    table(as_text(scores.results))
    if file is not None and markdown is not None and plots is not None:
        drawn = draw_all(scores.results, scores.activation, plots)
        write_text(markdown, as_markdown(scores.results))
        write_json(file, scores.to_json())
        written([file, markdown, *drawn])
