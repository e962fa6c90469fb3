"""The command line. Everything heavy is imported by the command that needs it, so that help comes at once."""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avfake import AvfakeError, __version__

if TYPE_CHECKING:
    from rich.console import Console

    from avfake.detect import Detector
    from avfake.judging import Detection
    from avfake.report.results import ResultList

LONG_S = 20.0  # longer input gets a progress bar
MOST_CORPORA = 5  # that are named of those a model was trained on
ERROR_SCHEMA = "avfake-error-1"
BATCH_SCHEMA = "avfake-detections-1"

log = logging.getLogger("avfake")
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="M", help="An embedded model, a checkpoint folder, hf:org/name or an exported file."
    ),
]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option("--engine", help="Worker processes of this machine, or a Ray cluster.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=0, metavar="N", help="How many; by default one a CPU. 0: no others.")
]
FacesOption = Annotated[
    Literal["auto", "facemesh", "face_alignment"], typer.Option("--faces", help="What finds faces and their points.")
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="D", help="A torch device, as in cpu or cuda.")]


class _Echo(logging.Handler):
    """Log records on stderr as lines of this program; looks stderr up each time, as progress bars replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell(self.format(record))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"avfake {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Tells whether a talking-face clip was faked: mouth, voice, and whether they belong together."""
    log.handlers[:] = [_Echo()]
    log.setLevel(logging.INFO)


@app.command()
def detect(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Video or audio files, folders of them, or fsspec addresses.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else instead of reports.")
    ] = False,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="F.jsonl", help="Also write one line of JSON a file; go on with a list begun."),
    ] = None,
    model: ModelOption = "mini",
    device: DeviceOption = "cpu",
    faces: FacesOption = "auto",
    false_alarms: Annotated[
        float | None,
        typer.Option(
            "--false-alarms", metavar="R", help="The false-positive rate whose thresholds decide; 0.05 if it is there."
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, metavar="N", help="CPU threads; more than one rarely helps.")
    ] = 1,
    engine: EngineOption = "local",
    workers: Annotated[
        int, typer.Option("--workers", min=0, metavar="N", help="Files judged at once, each on one thread.")
    ] = 0,
) -> None:
    """Judge files: is the mouth altered, is the voice synthetic, do they belong together?

    Exit code 0: every file was judged or honestly not judged; 1: some file failed, each is named on stderr;
    2: wrong usage.
    """
    from rich.console import Console

    from avfake.report.terminal import print_detection, print_reminder

    console, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    entries: dict[str, dict[str, Any]] = {}
    results: Iterator[tuple[str, Detection | str]]
    judged, failed, named = 0, 0, ""
    with _errors_told(), ExitStack() as stack:
        files, lines = _opened(paths, out, stack)
        if engine == "local" and workers == 0:
            detector = _load(model, device, faces, false_alarms, threads, progress)
            waiting = _unjudged(files, lines, detector.fingerprint, entries if as_json else {})
            results = ((file, _judge(detector, file, number, len(files), progress)) for number, file in waiting)
        else:
            kept = entries if as_json else {}
            results = _judge_at_once(files, lines, kept, model, device, faces, false_alarms, engine, workers, progress)
        for file, result in results:
            judged += 1
            if isinstance(result, str):
                failed += 1
                _tell(_one_line(result))
                entry = {"schema": ERROR_SCHEMA, "file": file, "error": result}
            else:
                entry, named = result.to_dict(), result.model
                if not as_json:
                    print_detection(result, console)
                    console.print()
            if as_json:
                entries[file] = entry
            if lines is not None:
                lines.add(entry)
        if judged < len(files):
            _tell(f"{len(files) - judged} of {len(files)} files were in {out} already")
        if as_json:
            typer.echo(_json(_document(files, entries)))
        elif named:
            print_reminder(named, console)
    if failed:
        raise typer.Exit(1)


@app.command()
def demo() -> None:
    """Judge a fake that comes with avfake, as it is and with its voice delayed, and explain the result."""
    from rich.console import Console

    console = Console(highlight=False)
    with _errors_told():
        detector = _load("mini", "cpu", "auto", None, 1, Console(stderr=True))
        from avfake.demo import run_demo

        run_demo(detector, console)


@app.command()
def manifest(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Name of the corpus, or NAME:VARIANT.")],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Where it was unpacked.")],
    out: Annotated[str, typer.Option("-o", "--out", metavar="M.jsonl", help="The manifest to write.")],
) -> None:
    """List the clips of a public corpus, or of your own folders, with what is known of each.

    A name that is not known is answered with all that are; docs/corpora has a page for each family.
    """
    from rich.console import Console

    from avfake.report.manifest import print_counts

    with _errors_told():
        from avfake import corpora
        from avfake.manifest import read, write

        write(corpora.read(corpus, Path(os.path.abspath(root))), out)
        print_counts(read(out), Console(highlight=False))


@app.command()
def prepare(
    manifest: Annotated[str, typer.Argument(metavar="M.jsonl", help="What avfake manifest wrote.")],
    out: Annotated[str, typer.Option("-o", "--out", metavar="SHARDS", help="Folder or address of the shards.")],
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    faces: FacesOption = "auto",
    faces_of_original: Annotated[
        bool, typer.Option("--faces-of-original", help="Give a fake the face track of its original, if they align.")
    ] = False,
) -> None:
    """Cut every clip of a manifest as detection does, into WebDataset shards; run it again to go on.

    Exit code 0: all clips are in the shards, or in failures.jsonl with a reason; 1: it cannot go on.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with _errors_told():
        from avfake.prepare import prepare as run
        from avfake.report.prepare import Progress, print_summary

        with Progress(console) as told:
            summary = run(
                manifest,
                out,
                engine=engine,
                workers=_workers(workers, engine),
                faces=faces,
                faces_of_original=faces_of_original,
                begin=told.begin,
                progress=told.add,
            )
        print_summary(summary, told, out, Console(highlight=False))


@app.command()
def audit(
    manifest: Annotated[str, typer.Argument(metavar="M.jsonl", help="What avfake manifest wrote.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else instead of tables.")
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Also write audit.json and audit.png there.")
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
) -> None:
    """Does a corpus leak its label? How much of it can be told without looking at what is shown or said.

    Exit code 0: the corpus was audited, whatever was found; 1: it cannot be.
    """
    from rich.console import Console

    progress = Console(stderr=True, highlight=False)
    with _errors_told():
        from rich.progress import Progress

        from avfake.evaluation.audit import measure_all, run
        from avfake.manifest import read
        from avfake.report.audit import document, draw, print_audit
        from avfake.storage import join, make_folder, write_bytes

        rows = list(read(manifest))
        if out is not None:
            make_folder(out)
        with Progress(console=progress, disable=not progress.is_terminal, transient=True) as bar:
            files, questions = bar.add_task("measuring", total=len(rows)), bar.add_task("asking", total=None)
            properties = measure_all(
                rows,
                engine=engine,
                workers=_workers(workers, engine),
                told=lambda done: bar.update(files, completed=done),
            )
            found = run(rows, properties, told=lambda done, of: bar.update(questions, completed=done, total=of))
        if out is not None:
            write_bytes(join(out, "audit.json"), _json(document(found)).encode())
            draw(found, join(out, "audit.png"))
        if as_json:
            typer.echo(_json(document(found)))
        else:
            print_audit(found, Console(highlight=False, width=None if sys.stdout.isatty() else 120))


@app.command()
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train on what, as in configs/.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values to change, as in optim.rate=3e-4.")
    ] = None,
) -> None:
    """Train a model as a configuration says; run it again to go on.

    Exit code 0: the run is complete; 1: it cannot begin or go on. On several GPUs: torchrun --no-python
    --nproc-per-node gpu avfake train CONFIG.yaml ...
    """
    first = os.environ.get("RANK", "0") == "0"  # set by what starts several processes; all of them tell their failures
    if not first:
        log.setLevel(logging.WARNING)
    with _errors_told():
        from avfake.config import load_config

        settings = load_config(config, changes or ())
        try:
            from avfake.training.loop import train as run
        except ModuleNotFoundError as error:
            if error.name != "accelerate":
                raise
            raise AvfakeError('training needs accelerate; get it with pip install "avfake[train]"') from error
        try:
            folder = run(settings)
        except KeyboardInterrupt:
            _tell(f"stopped; the same command goes on where {settings.out} was last saved")
            raise typer.Exit(130) from None
    if first:
        typer.echo(f"The checkpoint is in {folder}. Judge a clip with it:")
        typer.echo(f"  avfake detect --model {shlex.quote(str(folder))} clip.mp4")


@app.command("eval")
def evaluate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to judge, on what, as in configs/eval.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values to change, as in model=runs/mine.")
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also judge damaged copies of some clips (docs/robustness.md).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else instead of tables.")
    ] = False,
) -> None:
    """Measure a model, or somebody's scores, on test sets; run it again to go on.

    Writes scores as Parquet, report.json and report.html into the configuration's out. Exit code 0: everything was
    judged or honestly not judged; 1: some clip failed, or it cannot go on.
    """
    from rich.console import Console

    progress = Console(stderr=True, highlight=False)
    with _errors_told():
        from avfake.evaluation.config import load_config

        settings = load_config(config, changes or ())
        try:
            from avfake.evaluation.run import REPORT
            from avfake.evaluation.run import evaluate as run
        except ModuleNotFoundError as error:
            if error.name not in ("pyarrow", "filelock"):
                raise
            raise AvfakeError(f'evaluation needs {error.name}; get it with pip install "avfake[eval]"') from error
        from avfake.report.evaluation import document, print_evaluation
        from avfake.report.page import write_page
        from avfake.report.progress import Stages
        from avfake.storage import join, make_folder, write_bytes

        _check_device(settings.device)
        make_folder(settings.out)
        try:
            with Stages(progress) as told:
                found = run(settings, corruptions=corruptions, told=told)
        except KeyboardInterrupt:
            _tell(f"stopped; the same command goes on with what is in {settings.out}")
            raise typer.Exit(130) from None
        write_bytes(join(settings.out, REPORT), _json(document(found)).encode())
        write_page(found, join(settings.out, "report.html"))
        if as_json:
            typer.echo(_json(document(found)))
        else:
            print_evaluation(found, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
            typer.echo(f"The page is {join(settings.out, 'report.html')}")
        failed = sum(len(one.failed) for one in found.sets)
    if failed:
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """List the models inside this package: size, training data, figures."""
    from omegaconf import OmegaConf

    found = [folder for folder in (resources.files("avfake") / "data" / "models").iterdir() if folder.is_dir()]
    for folder in sorted(found, key=lambda folder: folder.name):
        config: Any = OmegaConf.to_container(OmegaConf.create((folder / "config.yaml").read_text(encoding="utf-8")))
        with resources.as_file(folder / "model.safetensors") as weights:
            typer.echo(f"{folder.name}  {weights.stat().st_size / 1e6:.1f} MB")
        typer.echo(f"  trained on  {_some(config['corpora']) or 'not told'}")
        figures = list(_figures(config["metrics"]))
        for index, (name, value) in enumerate(figures or [("none recorded", "")]):
            typer.echo(f"  {'' if index else 'figures':10}  {name} {value}".rstrip())


@app.command()
def export(
    model: Annotated[
        str, typer.Option("--model", metavar="M", help="An embedded model, a checkpoint folder or hf:org/name.")
    ],
    format: Annotated[Literal["torchscript", "onnx"], typer.Option("--format", help="For torch, or onnxruntime.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write, as in mini.onnx.")],
    part: Annotated[
        Literal["model", "lip-encoder", "audio-encoder", "sync-head"],
        typer.Option("--part", help="All of it, or what other models may be built on."),
    ] = "model",
    precision: Annotated[
        Literal["float32", "float16", "int8"], typer.Option("--precision", help="Smaller numbers are for ONNX only.")
    ] = "float32",
) -> None:
    """Write a model as one file that runs where avfake is not installed (docs/export.md).

    Exit code 0: the file is there, and says what the model says; 1: it is not.
    """
    from rich.console import Console

    with _errors_told():
        from avfake.export import export as run
        from avfake.models import load_checkpoint
        from avfake.report.export import print_written

        written = run(load_checkpoint(model), out, format=format, part=part, precision=precision)
        print_written(written, Console(highlight=False))


@app.command()
def bench(
    clip: Annotated[
        Path | None, typer.Argument(metavar="[CLIP]", help="A video file: measures each step of detection on it.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="Measures all that can run this model (docs/speed.md)."),
    ] = None,
) -> None:
    """Measure how fast detection is on this machine: its steps, and what can run its model."""
    if clip is None and model is None:
        raise typer.BadParameter("give a CLIP to measure the steps of detection on, a --model, or both")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its processes and files go with it
    with _errors_told():
        from avfake.bench import bench

        try:
            bench(clip, model=model)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def main() -> None:
    """Run the command line: the entry point ``avfake``."""
    _mend_streams()
    try:
        app()
    except OSError as error:
        if error.filename is not None:  # a fault of our own: only writing to an open stream names no file
            raise
        with suppress(OSError):
            _tell(f"the results cannot be written ({error.strerror}); free some space or send them elsewhere")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes what is left when it ends
        sys.exit(1)


# ------------------------------------------------------------------------------------------------ steps


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn a failure of the user's into its one sentence and exit code 1."""
    try:
        yield
    except AvfakeError as error:
        _tell(_one_line(str(error)))
        raise typer.Exit(1) from None


def _workers(asked: int | None, engine: Literal["local", "ray"]) -> int:
    """One worker for each CPU that this process may use; for each of a cluster's, which 0 stands for there."""
    if asked is not None:
        return asked
    return 0 if engine == "ray" else len(os.sched_getaffinity(0))


def _mend_streams() -> None:
    """Let a letter that the terminal does not know be shown in another way, and end where nobody can read anything."""
    for number, stream in ((2, sys.stderr), (1, sys.stdout)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        elif stream is None and number == 2:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LiteRT's own chatter is sent there and back
        elif stream is None:
            _tell("standard output is closed, so nothing can be reported; send it to a file or to /dev/null")
            sys.exit(1)


def _tell(message: str) -> None:
    """Say something on stderr, whatever the names in it; only newlines stay."""
    from avfake.report.terminal import shown

    typer.echo("avfake: " + "\n".join(shown(line) for line in message.split("\n")), err=True)


def _one_line(message: str) -> str:
    return message.replace("\n", "?")


def _load(
    model: str,
    device: str,
    faces: Literal["auto", "facemesh", "face_alignment"],
    false_alarms: float | None,
    threads: int,
    progress: Console,
) -> Detector:
    with progress.status("loading the model ...") if progress.is_terminal else nullcontext():
        from avfake.detect import Detector

        _check_device(device)
        return Detector.from_pretrained(model, device=device, threads=threads, faces=faces, false_alarms=false_alarms)


def _check_device(device: str) -> None:
    if device == "cpu":  # needs no torch, which takes seconds to import
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(f"{device} cannot be used here ({reason})", param_hint="--device") from None


def _opened(paths: list[str], out: str | None, stack: ExitStack) -> tuple[list[str], ResultList | None]:
    """Find the files to judge, and open the list of results, which stays as it is until the model is loaded."""
    from avfake.report.results import ResultList, ResultsError
    from avfake.storage import expand

    files = expand(paths)
    if out is None:
        return files, None
    try:
        lines = ResultList(out, files)
    except ResultsError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from None
    stack.callback(lines.close)
    return files, lines


def _unjudged(
    files: list[str], lines: ResultList | None, fingerprint: str, entries: dict[str, dict[str, Any]]
) -> Iterator[tuple[int, str]]:
    """Yield the files, numbered from 1, that the list has no answer for; what it has goes into ``entries``."""
    for number, file in enumerate(files, 1):
        older = None if lines is None else lines.older(file, fingerprint)
        if older is None:
            yield number, file
        else:
            entries[file] = older


def _document(files: list[str], entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what ``--json`` prints: the one result, or all of them."""
    if len(files) == 1:
        return entries[files[0]]
    results = [entries[file] for file in files]
    return {
        "schema": BATCH_SCHEMA,
        "detections": [entry for entry in results if entry["schema"] != ERROR_SCHEMA],
        "errors": [entry for entry in results if entry["schema"] == ERROR_SCHEMA],
    }


def _judge(detector: Detector, file: str, number: int, count: int, progress: Console) -> Detection | str:
    from avfake.scan import judge

    name = os.path.basename(file)
    with _shown(progress, file, f"{number}/{count} {name}" if count > 1 else name) as told:
        return judge(detector, file, progress=told)


def _judge_at_once(
    files: list[str],
    lines: ResultList | None,
    entries: dict[str, dict[str, Any]],
    model: str,
    device: str,
    faces: Literal["auto", "facemesh", "face_alignment"],
    false_alarms: float | None,
    engine: Literal["local", "ray"],
    workers: int,
    progress: Console,
) -> Iterator[tuple[str, Detection | str]]:
    """Judge several files at once; they come in the order in which they are done."""
    from rich.progress import Progress

    from avfake.detect import fingerprint
    from avfake.engines import Died, run
    from avfake.faces import backend_name
    from avfake.runtimes import describe
    from avfake.scan import Judges

    if engine == "local":
        _check_device(device)
    faces = backend_name(faces)
    judged_by = fingerprint(describe(model)[1], faces, false_alarms)
    waiting = (file for _, file in _unjudged(files, lines, judged_by, entries))
    with Progress(console=progress, disable=not progress.is_terminal, transient=True) as bar:
        task = bar.add_task("judging", total=len(files))
        make = Judges(model, device, faces, false_alarms)
        for file, result in run(make, waiting, engine=engine, workers=workers, gpu=device.startswith("cuda")):
            bar.update(task, advance=1)
            yield file, f"{file}: {result.reason}; try it alone" if isinstance(result, Died) else result


@contextmanager
def _shown(progress: Console, path: str, label: str) -> Iterator[Callable[[float], None]]:
    """Show on a terminal that a file is being judged; yields what is to be told the seconds done."""
    if not progress.is_terminal:
        yield lambda seconds: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from avfake.media import probe
    from avfake.report.terminal import shown
    from avfake.storage import is_remote

    duration = None if is_remote(path) else probe(path).duration_s
    if duration is None or duration < LONG_S:
        with progress.status(f"judging {shown(label)}".replace("[", r"\[")):
            yield lambda seconds: None
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress, transient=True) as bar:
        task = bar.add_task(shown(label)[-40:], total=duration)
        yield lambda seconds: bar.update(task, completed=seconds)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False)


def _some(names: list[str]) -> str:
    """The first of many names, and how many more there are."""
    more = len(names) - MOST_CORPORA
    return ", ".join(names[:MOST_CORPORA]) + (f" and {more} more" if more > 0 else "")


def _figures(metrics: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested figures into (name, value) pairs."""
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _figures(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", f"{value:.3g}" if isinstance(value, float) else str(value)
