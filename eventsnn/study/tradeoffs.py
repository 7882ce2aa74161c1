"""Accuracy against spikes and energy, while thresholds, bins, winners and inhibition of a recipe change."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventsnn import checks
from eventsnn.encode import ImageEncoder
from eventsnn.experiment import Experiment
from eventsnn.models import MODELS, Model, nmnist, nmnist_rstdp
from eventsnn.profile import PICOJOULES, Costs
from eventsnn.sources import is_event_file
from eventsnn.study import samples
from eventsnn.study.keeping import Kept, alone, check_client, each, run_id
from eventsnn.study.measuring import Task, measured
from eventsnn.study.results import Row
from eventsnn.study.variations import Setting, bins_of, check, described, settings_of, varied, winners_of
from eventsnn.targets import hidden
from eventsnn.train import Progress, ignore
from eventsnn.unfinished import absolute
from eventsnn.validation import nearest

if TYPE_CHECKING:
    from distributed import Client

_RECIPES: dict[str, Callable[[], Model]] = {**MODELS, "nmnist": nmnist, "nmnist_rstdp": nmnist_rstdp}


@dataclass(frozen=True)
class Tradeoff:
    """What to vary, of which recipe, on which data; every field has a default, and is a key of a study's TOML file.

    Parameters
    ----------
    model : str or Model
        Name of a published model, path of an experiment's TOML file, or a recipe.
    data : str
        Images, as ``eventsnn train --data`` takes them; for a model of camera events a folder with one folder of
        recordings for each class, perhaps in ``Train`` and ``Test``; or an event file: of images what the model's
        encoder has made, of a camera recordings as ``eventsnn convert`` writes them.
    test_data : str
        The same, to test with. ``""``: the test part of ``data``, and where there is none the last fifth of each class,
        which is held out from training then.
    train, test : int
        Samples to train on and to test with, drawn at random, the same in all runs; 0 for all that there are.
    epochs : tuple of int
        One for each layer that learns; empty for the recipe's.
    thresholds : tuple of float
        Factors of all finite thresholds. Where a rule adapts thresholds they are where these start.
    bins : tuple of int
        Numbers of time bins. Leaks and time constants of rules keep their ratio to the duration.
    winners : tuple of int
        Largest numbers of winners in a sample, of each layer that learns without reward.
    inhibition : tuple of float or str
        Factors of the radius that winners inhibit while a layer learns without reward; ``"pointwise"``, where only the
        first map fires at each position of a layer with finite thresholds, while it learns and afterwards; ``"none"``,
        where a winner inhibits its own map alone, and nobody anybody after learning.
    seeds : tuple of int
        Of initial weights, dropout and the order of samples; each setting runs with each.
    grid : bool
        Whether to run all combinations of these values, where the recipe's own is among them only if it is listed, or
        the list empty. Default: the recipe, and what differs from it in one value.
    retrain : bool
        Whether a network learns with the thresholds that it is tested with. Else it learns with the recipe's, one for
        all factors, and thresholds (those that finite ones have become) are multiplied afterwards; the readout stays.
    pj_per_operation, pj_per_mac : float
        Picojoules of a synaptic operation and of a multiply-accumulate, as of :func:`eventsnn.study.profile`.

    Raises
    ------
    ValueError, TypeError
        If a value is none of these.
    """

    model: str | Model = "digits"
    data: str = "digits"
    test_data: str = ""
    train: int = 0
    test: int = 0
    epochs: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    bins: tuple[int, ...] = (5, 15, 30)
    winners: tuple[int, ...] = ()
    inhibition: tuple[float | str, ...] = ("none", "pointwise")
    seeds: tuple[int, ...] = (0, 1, 2)
    grid: bool = False
    retrain: bool = True
    pj_per_operation: float = Costs.pj_per_operation
    pj_per_mac: float = Costs.pj_per_mac

    def __post_init__(self) -> None:
        checks.plain(self, ("epochs", *_AXES, "seeds"))
        checks.kind("model", self.model, str, Model, or_none=False)
        for name in ("data", "test_data"):
            checks.kind(name, getattr(self, name), str, or_none=False)
        for name in ("train", "test"):
            checks.integer(name, getattr(self, name), 0)
        for name in ("grid", "retrain"):
            checks.switch(name, getattr(self, name))
        for name in PICOJOULES:
            checks.number(name, getattr(self, name), least=0)
        for name, field in _AXES.items():
            for value in getattr(self, name):
                Setting(**{field: value})
        for seed in self.seeds:
            checks.integer("seeds", seed, 0)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds expects at least one, each once, got {list(self.seeds)}")

    @classmethod
    def quick(cls, **changes: Any) -> Tradeoff:
        """Return a study of less than two minutes on two cores: few samples, settings and seeds."""
        few = {"thresholds": (0.6, 1.0, 1.4), "bins": (5,), "inhibition": ("pointwise",), "seeds": (0, 1)}
        return cls(**{"train": 1000, "test": 100, **few, **changes})


#: fields of settings that are varied, and the fields of :class:`Setting` that they list
_AXES = {"thresholds": "threshold", "bins": "bins", "winners": "winners", "inhibition": "inhibition"}


def tradeoff(
    settings: Tradeoff | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    jobs: int = 1,
    client: Client | None = None,
    command: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], object] | None = None,
) -> list[Row]:
    """Train a recipe with each setting and seed, and measure what it decides right, and at what cost.

    Parameters
    ----------
    settings : Tradeoff, optional
        What to do. Default: ``Tradeoff()``.
    out : path, optional
        File of JSON lines, written anew by rename after each run; see :mod:`eventsnn.study.results`.
    resume : bool
        Continue what was cut: runs that ``out`` has are taken from there. All of them must be of this study, which may
        have more.
    jobs : int
        Processes that share the runs. As with all that starts processes anew, a program that asks for several begins
        with ``if __name__ == "__main__":``.
    client : distributed.Client, optional
        Of a Dask cluster, whose workers share the runs instead; they see the folder of ``out``, where the encoded
        samples lie meanwhile.
    command : str, optional
        What the rows name as the command that made them.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    say : callable, optional
        Takes a line for people after each run.

    Returns
    -------
    list of dict
        A row for each run, in the order of settings and then of seeds, whoever computed them and in whatever order.
        ``accuracy``, and ``silent`` samples, are of all samples to test with. Of up to 1,000 of these (``counted``),
        evenly chosen, are the means for one sample: ``spikes`` that leave layers (those of neurons that an inhibition
        layer silences do not), in all and ``spikes_by_layer``; ``input_spikes``; synaptic ``operations``, those of them
        that are ``stopped``, ``energy`` and ``dense_energy`` in joules, as of :func:`eventsnn.study.profile`; and
        ``seconds`` of processor time from encoded samples to decisions. ``train_seconds`` is processor time, too, with
        what is compiled meanwhile.

    Raises
    ------
    ValueError, TypeError, OSError
        If settings or data do not fit, or ``out`` is there and shall not be continued; nothing has been written then.
    """
    checks.kind("settings", settings, Tradeoff)
    settings = settings or Tradeoff()
    checks.integer("jobs", jobs, 1)
    check_client(client)
    runs, chosen = _planned(settings)
    with alone(out):
        kept = Kept("tradeoff", [run.id for run in runs], out, resume)
        left = [run for run in runs if run.id not in kept]
        report = progress or ignore
        report(len(runs) - len(left), len(runs), "runs")
        with _scratch(out) as folder:
            tasks = _tasks(left, chosen, folder, report)
            with closing(each(measured, list(tasks), jobs, client)) as finished:
                for task, found in finished:
                    rows = [_row(run, result, command) for run, result in zip(tasks[task], found, strict=True)]
                    kept.add(rows)
                    report(len(kept.rows), len(runs), "runs")
                    for row in rows:
                        (say or (lambda line: None))(line_of(row))
        return kept.rows


@dataclass(frozen=True, eq=False)
class _Run:
    """One run: its recipe, with what encodes it, and what the row says that it is."""

    id: str
    model: Model
    factor: float  # of thresholds after learning
    seed: int
    config: Mapping[str, Any]


_Chosen = tuple[samples.Sampled, samples.Sampled]


def _planned(settings: Tradeoff) -> tuple[list[_Run], _Chosen]:
    """Return all runs in order and the samples, or raise before there is anything to write."""
    recipe = _recipe(settings)
    axes = {field: getattr(settings, name) for name, field in _AXES.items()}
    wanted = settings_of(recipe, axes, settings.grid)
    for setting in wanted:
        _checked(settings, recipe, setting)
    train, test, encoder = samples.read(recipe, settings.data, settings.test_data, (settings.train, settings.test))
    recipe = replace(recipe, encoder=encoder)
    data = {"data": settings.data, "test_data": settings.test_data, "retrain": settings.retrain}
    data |= {name: float(getattr(settings, name)) for name in PICOJOULES}
    for name, part in (("train", train), ("test", test)):
        data |= {f"{name}_samples": part.samples, f"{name}_sha256": part.sha256}
    return [_run(recipe, setting, seed, data) for setting in wanted for seed in settings.seeds], (train, test)


def _recipe(settings: Tradeoff) -> Model:
    name = settings.model
    if isinstance(name, Model):
        model = name
    elif name.endswith(".toml"):
        model = Experiment.load(name).model
    elif name in _RECIPES:
        model = _RECIPES[name]()
    else:
        raise ValueError(f"model has the unknown name {name!r}; {nearest(name, _RECIPES)}")
    return model.with_epochs(settings.epochs) if settings.epochs else model


def _checked(settings: Tradeoff, recipe: Model, setting: Setting) -> None:
    if setting.bins is not None and isinstance(recipe.encoder, ImageEncoder) and is_event_file(settings.data):
        raise ValueError(
            f"bins expects images, which it encodes; {settings.data} holds what is encoded already: leave it empty"
        )
    try:
        check(varied(recipe, setting))
    except ValueError as error:
        raise ValueError(f"{recipe.name} with {setting}: {error}") from None


def _run(recipe: Model, setting: Setting, seed: int, data: Mapping[str, Any]) -> _Run:
    later = setting.threshold if not data["retrain"] else 1.0
    model = varied(recipe, replace(setting, threshold=setting.threshold / later))
    kinds = list(dict.fromkeys(winners_of(model)))
    said = {
        "model": model.name,
        "threshold": float(setting.threshold),
        "bins": bins_of(model),
        "winners": kinds[0] if len(kinds) == 1 else ", ".join(map(str, winners_of(model))),
        "inhibition": setting.inhibition if isinstance(setting.inhibition, str) else float(setting.inhibition),
        "seed": seed,
    }
    config = {**data, **said, "recipe": described(model)}
    same = {name: value for name, value in config.items() if name not in ("data", "test_data")}  # wherever they lie
    return _Run(run_id(same), model, later, seed, config)


def _tasks(runs: Sequence[_Run], chosen: _Chosen, scratch: Path, report: Progress) -> dict[Task, list[_Run]]:
    """Return what is to be done for each run, or for several that differ in what happens after learning."""
    files: dict[Any, tuple[str, str]] = {}
    tasks: dict[tuple[Any, ...], list[_Run]] = {}
    for run in runs:
        encoder = run.model.encoder
        if encoder not in files:
            report(len(files), len({one.model.encoder for one in runs}), "encode")
            names = [scratch / f"{part}-{len(files)}.h5" for part in ("train", "test")]
            for part, path in zip(chosen, names, strict=True):
                part.write(encoder, path)
            files[encoder] = (str(names[0]), str(names[1]))
        tasks.setdefault((str(run.config["recipe"]), files[encoder], run.seed), []).append(run)
    return {
        Task(group[0].model, seed, tuple(run.factor for run in group), train, test, _costs(group[0])): group
        for (_, (train, test), seed), group in tasks.items()
    }


def _costs(run: _Run) -> Costs:
    return Costs(**{name: run.config[name] for name in PICOJOULES})


def _row(run: _Run, found: Mapping[str, Any], command: str | None) -> Row:
    named = [field.name for field in fields(Setting)]
    said = {name: run.config[name] for name in ("model", *named, "seed")}
    dataset = Path(run.config["data"]).name
    row: Row = {"study": "tradeoff", "run": run.id, "dataset": dataset, **said, **found}
    return row | {"config": dict(run.config), "command": command}


def line_of(row: Mapping[str, Any]) -> str:
    """Return a row for people."""
    setting = ", ".join(f"{field.name} {row[field.name]}" for field in fields(Setting))
    result = f"{row['accuracy']:.2%} right, {row['spikes']:,.0f} spikes, {row['energy'] * 1e6:.3g} µJ"
    return f"{setting}, seed {row['seed']}: {result}"


@contextmanager
def _scratch(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield a folder for encoded samples: beside what is written, where workers of a cluster see it."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="eventsnn-") as folder:
            yield Path(folder)
    else:
        target = absolute(Path(out))
        with hidden(target.with_name(f"{target.name}.samples"), folder=True) as made:
            yield made
