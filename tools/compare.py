"""Compare score files on the same clips: ``python tools/compare.py M.jsonl ours=A.parquet theirs=B.csv:genuine``.

Each file is [NAME=]PATH, and after colons what its scores are: genuine where they rise with genuine, probability or llr
where they are that and not merely an order. Prints each file's figure, then all differences with their p-values;
docs/score-files.md says how to read them.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from rich.table import Table

from avfake import AvfakeError
from avfake.evaluation import score_file
from avfake.evaluation.compare import FALSE_ALARMS, LESS_IS_BETTER, Comparison, compare
from avfake.evaluation.table import Scale
from avfake.manifest import ManifestError, read
from avfake.report.terminal import shown

SCHEMA = "avfake-compare-1"
TITLES = {"auc": "AUC", "eer": "EER", "tpr5": "TPR at 5 % false alarms", "cllr": "Cllr"}
FEW_PERSONS = 20


@dataclass(frozen=True)
class File:
    """A score file as it is named on the command line."""

    name: str
    path: str
    higher: score_file.Higher
    scale: Scale


def parse(text: str) -> File:
    """Return the file that ``[NAME=]PATH[:genuine][:probability|:llr]`` names."""
    name, equals, path = text.partition("=")
    if not equals or "/" in name:
        name, path = "", text
    higher: score_file.Higher = "fake"
    scale: Scale = "rank"
    while (end := path.rpartition(":"))[2] in ("genuine", *get_args(Scale)) and end[0]:
        path = end[0]
        if end[2] == "genuine":
            higher = "genuine"
        else:
            scale = next(one for one in get_args(Scale) if one == end[2])
    return File(name or Path(path).stem, path, higher, scale)


def main(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="the clips and their labels")],
    files: Annotated[list[str], typer.Argument(metavar="[NAME=]PATH[:genuine][:probability|:llr]...")],
    split: Annotated[Literal["train", "dev", "test", "all"], typer.Option(help="which rows")] = "test",
    aspect: Annotated[Literal["fake", "visual", "audio", "sync"], typer.Option(help="which label and score")] = "fake",
    metric: Annotated[Literal["auc", "eer", "tpr5", "cllr"], typer.Option(help="what is compared")] = "auc",
    resamples: Annotated[int, typer.Option(min=100, help="draws of the bootstrap")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> None:
    """Compare score files on the clips that all of them judge."""
    chosen = [parse(text) for text in files]
    if twice := [name for name, count in Counter(file.name for file in chosen).items() if count > 1]:
        raise typer.BadParameter(f"two files are called {twice[0]}; write NAME=PATH")
    rows = [row for row in read(manifest) if split in (row.split, "all")]
    if not rows:
        raise ManifestError(f"{manifest} has no clip of the {split} split; name another --split.")
    tables = {}
    for file in chosen:
        scores = score_file.read(file.path, rows, aspect=aspect, higher=file.higher, scale=file.scale)
        for note in scores.notes():
            print(shown(note), file=sys.stderr)
        if aspect not in scores.names:
            raise score_file.ScoreFileError(
                f"{file.path} has no {aspect} score but {', '.join(scores.names)}; name another --aspect."
            )
        tables[file.name] = scores.table(rows)
    found = compare(tables, aspect, metric, resamples)
    if as_json:
        print(json.dumps(document(found), indent=2, ensure_ascii=False))
    else:
        print_comparison(found, Console(highlight=False, width=None if sys.stdout.isatty() else 110))


def document(found: Comparison) -> dict[str, Any]:
    """Return the comparison as the JSON document ``avfake-compare-1``; what is not defined is null."""
    return {
        "schema": SCHEMA,
        **{name: value for name, value in asdict(found).items() if name not in ("measured", "pairs")},
        "files": [{"name": one.name, "judged": one.judged, **_fields(one.figure)} for one in found.measured],
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "bootstrap": _fields(pair.difference) | _fields_of({"p_holm": pair.p_holm}),
                "delong": pair.delong and _fields(pair.delong) | _fields_of({"p_holm": pair.delong_p_holm}),
            }
            for pair in found.pairs
        ],
    }


def print_comparison(found: Comparison, console: Console) -> None:
    """Print the two tables, made for 100 columns."""
    title = TITLES[found.metric]
    better = "less is better" if found.metric in LESS_IS_BETTER else "more is better"
    console.print(
        f"{found.score}: {found.genuine} genuine and {found.fake} fake clips of {found.persons} persons, judged by all "
        f"files, of {found.known} whose label is known\n"
    )
    table = _table(f"{title} ({better})", "file", "judged", "value", "95 % interval")
    for one in found.measured:
        figure = one.figure
        table.add_row(shown(one.name), str(one.judged), _number(figure.value), _range(figure.low, figure.high))
    console.print(table, "")
    if found.pairs:
        columns = ("pair", "difference", "95 % interval", "p", "p (Holm)")
        delong = ("DeLong p", "(Holm)") if found.metric == "auc" else ()
        table = _table("Differences, by bootstrap over persons", *columns, *delong)
        for pair in found.pairs:
            difference = pair.difference
            cells = [_signed(difference.value), _range(difference.low, difference.high, _signed)]
            cells += [_p(difference.p), _p(pair.p_holm)]
            if pair.delong is not None and pair.delong_p_holm is not None:
                cells += [_p(pair.delong.p), _p(pair.delong_p_holm)]
            table.add_row(shown(f"{pair.a} - {pair.b}"), *cells)
        console.print(table, "")
    for warning in _warnings(found):
        console.print(warning, style="yellow")


def _warnings(found: Comparison) -> list[str]:
    turned = {"auc": lambda figure: figure.high < 0.5, "eer": lambda figure: figure.low > 0.5}.get(found.metric)
    warnings = [
        f"{shown(one.name)} is worse than chance: do its scores rise with genuine? Then put :genuine behind its path."
        for one in found.measured
        if turned is not None and turned(one.figure)
    ]
    if found.metric == "tpr5" and found.genuine * FALSE_ALARMS < 1:
        warnings.append(
            f"{TITLES['tpr5']} takes {1 / FALSE_ALARMS:.0f} genuine clips that all files judge, not {found.genuine}: "
            "it is not defined here."
        )
    if found.alone:
        warnings.append(f"Of {found.alone} clips the person is not known; each is drawn as if it were of its own.")
    if found.persons + found.alone < FEW_PERSONS:
        warnings.append(f"With fewer than {FEW_PERSONS} persons intervals are too narrow and p too small.")
    return warnings


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    return table


def _fields(figures: Any) -> dict[str, Any]:
    return _fields_of(figures._asdict())


def _fields_of(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in values.items()}


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.3f}"


def _range(low: float, high: float, words: Any = _number) -> str:
    return "-" if math.isnan(low) else f"{words(low)} to {words(high)}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
