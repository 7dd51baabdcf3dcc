"""Any options of `vtadl fit` lead to a usable run, or to an error of one sentence."""

import contextlib
import io
import os
import re
import shutil
import signal
import types
import typing
from collections.abc import Iterable, Sequence
from datetime import timedelta

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from vtadl.cli.commands import DIVERGED, INTERRUPTED, main
from vtadl.cli.lightning_cli import DetectorCLI, DetectorTrainer, raised_by_lightning
from vtadl.data import Augmentation, ImageDataModule, MVTecAD
from vtadl.lightning_module import AnomalyDetector
from vtadl.training.callbacks import Throughput

MAX_BATCHES = 12  # some options make training endless
LEFT_OUT = {
    "trainer.devices",  # any number of CPU devices is accepted
    "trainer.num_nodes",  # the processes would wait for other machines
    "trainer.strategy",
    "model.density.backbone",  # the model would be downloaded
    "ckpt_path",  # a checkpoint has other sizes
    "output",
}
FIXED = {  # with these settings nothing has to be chosen, which is fast
    "features": 8,
    "descriptor": "pixels",
    "positions": "shared",
    "background": "none",
    "min_std": 0.1,
    "softness": 0.1,
    "terms": "[nll]",
}
INTEGERS = ["0", "-1", "1", "2", "3", "1000000000", str(10**30)]
FLOATS = ["0.0", "-0.5", "1e-320", "1e-9", "0.5", "1.0", "3.5", "1e9", "1e300", ".nan", ".inf", "-.inf"]
TEXTS = ["", "nonsense", "00:00:00:00", "0"]
MAPPINGS = ["{}", '{"minutes": 0}', '{"days": -1}', '{"hours": 1}', '{"colour": 1}']


def extremes(hint):
    """Returns values at the limits of a type, and beyond them."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return [value for part in parts for value in extremes(part)]
    if origin is typing.Literal:
        return [*map(str, parts), "nonsense"]
    if origin in (list, Sequence, Iterable):
        return [
            "[]",
            *(f"[{value}]" for value in extremes(parts[0])),
            f"[{','.join(extremes(parts[0])[:2])}]",
        ]
    if origin is tuple:
        return ["[16,32]", "[0,32]", "[8,32]", "[32]"]
    known = {int: INTEGERS, float: FLOATS, bool: ["true", "false"], timedelta: TEXTS, dict: MAPPINGS}
    return known.get(origin or hint, ["null"] if hint is type(None) else TEXTS)


class ParserOnly(DetectorCLI):
    """Stops after the parser is made."""

    def parse_arguments(self, parser, args):
        raise LookupError(self._parser("fit"))


def parser_of(cls, prefix):
    parser = ArgumentParser()
    parser.add_class_arguments(cls, prefix)
    return parser


def all_options():
    """Returns the options of `vtadl fit`, of the data and of augmentation, with values to try."""
    with pytest.raises(LookupError) as stopped:
        ParserOnly(AnomalyDetector, ImageDataModule, trainer_class=DetectorTrainer, subclass_mode_data=True)
    classes = {"data": MVTecAD, "data.augmentation": Augmentation}
    parsers = [*stopped.value.args, *(parser_of(cls, prefix) for prefix, cls in classes.items())]
    found = {
        action.dest: getattr(action, "_typehint", None) or action.type
        for parser in parsers
        for action in parser._actions
    }
    return {name: extremes(hint) for name, hint in found.items() if hint is not None and name not in LEFT_OUT}


OPTIONS = all_options()


def call(*arguments):
    """Runs a command; returns its exit status and its error messages. Exceptions are not caught."""
    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGINT)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(arguments))
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        finally:
            signal.signal(signal.SIGINT, handler)  # Lightning ignores further interrupts
            torch.use_deterministic_algorithms(False)
    assert "Traceback" not in err.getvalue()
    return status, re.findall("^(?:vtadl|error): .+", err.getvalue(), re.MULTILINE)


@pytest.fixture(scope="module")
def fit(tiny, make_parts, tmp_path_factory):
    """Runs `vtadl fit`; returns its exit status, its error messages and the folder of the run."""
    root = tmp_path_factory.mktemp("options")
    make_parts(root / "parts")
    given_always = {f"model.{name}": value for name, value in (tiny | FIXED).items()}
    given_always |= {"data.root": root / "parts", "data.workers": 0, "data.batch_size": 4}
    given_always |= {f"trainer.enable_{name}": "false" for name in ("progress_bar", "model_summary")}
    given_always |= {"trainer.max_epochs": 2, "trainer.accelerator": "cpu", "output": root / "run"}

    def run(options):
        shutil.rmtree(root / "run", ignore_errors=True)
        chosen = given_always | options
        status, sentences = call("fit", "--data=MVTecAD", *(f"--{name}={chosen[name]}" for name in chosen))
        return status, sentences, root / "run"

    return run


@pytest.fixture(scope="module", autouse=True)
def _no_endless_training():
    batch_end, seen = Throughput.on_train_batch_end, []

    def count(self, trainer, *arguments):
        seen.append(trainer)
        if seen.count(trainer) > MAX_BATCHES:
            raise KeyboardInterrupt
        batch_end(self, trainer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Throughput, "on_train_batch_end", count)
        yield


def expect_use(run, kinds=("test", "predict", "resume")):
    """Checks that the commands which use a run accept this one."""
    image = str(run.parent / "parts/test/hole/000.jpg")
    commands = {
        "test": ["test", str(run)],
        "predict": ["predict", image, "--ckpt", str(run), "-o", str(run.parent / "out")],
        "resume": ["fit", "--resume", str(run)],
    }
    for kind in kinds:
        status, sentences = call(*commands[kind])
        assert status in (0, INTERRUPTED) or kind == "test", (kind, sentences)  # the test set may be empty
        assert status == 0 or len(sentences) == 1, (kind, sentences)


one_option = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(OPTIONS[name]))
)


EXAMPLES = int(os.environ.get("VTADL_OPTIONS", "30"))  # some errors are found only with a few hundred


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    options=st.lists(one_option, min_size=1, max_size=2).map(dict), use=st.sampled_from(["test", "resume"])
)
def test_any_options_lead_to_a_usable_run_or_to_one_sentence(fit, options, use):
    status, sentences, run = fit(options)
    if status == 0:
        expect_use(run, ("predict", use))
    else:
        assert status in (1, 2, DIVERGED, INTERRUPTED)
        assert len(sentences) == 1
        assert len(sentences[0]) < 600


@pytest.mark.parametrize(
    "options",
    [
        {"trainer.max_steps": 1},
        {"trainer.max_steps": 4, "trainer.check_val_every_n_epoch": 5},
        {"trainer.limit_val_batches": 0},
        {"trainer.val_check_interval": 2, "trainer.limit_val_batches": 1},
        {"trainer.accumulate_grad_batches": 100},
    ],
    ids=str,
)
def test_training_ends_with_a_validation_whatever_its_settings(fit, options):
    status, _, run = fit(options)
    assert status == 0
    best, last = (torch.load(run / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    for checkpoint in (best, last):
        assert checkpoint["state_dict"]["calibration.image.count"] == 12  # all normal images
    assert "val_loss" in (run / "metrics.csv").read_text().splitlines()[0]
    assert last["callbacks"]["History"]["rows"][-1]["val_loss"] > 0
    expect_use(run)


@pytest.mark.parametrize(
    "options",
    [{"trainer.max_epochs": 0}, {"trainer.max_time": "00:00:00:00"}, {"trainer.limit_train_batches": 0}],
    ids=str,
)
def test_settings_that_allow_no_step_are_named(fit, options):
    status, (sentence,), _ = fit(options)
    assert status == 2
    assert sentence.startswith("vtadl: nothing was trained: max_epochs, max_steps, ")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"trainer.fast_dev_run": 1},
            "trainer.fast_dev_run is 1, with which no run is written; .*--trainer.max_steps",
        ),
        ({"trainer.default_root_dir": "x"}, "trainer.default_root_dir is x, .*--output"),
        ({"trainer.max_time": "soon"}, ".*'soon'.* is not a valid duration"),
        ({"trainer.gradient_clip_algorithm": "x"}, ".*gradient_clip_algorithm"),
        ({"trainer.devices": 10**9}, "devices is 1000000000; it has to be"),
        ({"trainer.num_nodes": 2}, "num_nodes is 2, but .*MASTER_ADDR"),
        ({"trainer.check_val_every_n_epoch": 0}, "check_val_every_n_epoch is 0"),
        ({"trainer.strategy": "x"}, "the trainer's options are invalid: "),
        ({"model.width": 65536, "model.gated": "true"}, "a network of these sizes has .* weights"),
        ({"model.depth": 10**9}, "depth is 1000000000; it has to be 1000 or less"),
        ({"model.image_size": 8}, "image_size is 8x8; either side has to be 11 pixels or more"),
        ({"data.workers": 10**9}, "workers is 1000000000"),
        ({"data.seed": -1}, "seed is -1"),
        ({"trainer.logger": "MLFlowLogger"}, ".*mlflow"),
    ],
)
def test_errors_about_invalid_options_are_one_sentence(fit, options, sentence):
    status, sentences, _ = fit(options)
    assert status in (1, 2)
    assert len(sentences) == 1
    assert re.match(f"vtadl: {sentence}", sentences[0])


def test_settings_are_saved_in_the_run_wherever_a_logger_writes(fit, tmp_path):
    logger = {"trainer.logger": "CSVLogger", "trainer.logger.save_dir": tmp_path}
    status, _, run = fit(logger)
    assert status == 0
    assert (run / "config.yaml").exists()
    expect_use(run, ["test"])


@pytest.mark.parametrize("gated", ["null", "true"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_images_suffice_unless_a_network_is_trained(fit, make_parts, tmp_path, count, gated):
    parts = make_parts(tmp_path / "parts")
    for path in sorted((parts / "train/good").iterdir())[count:]:
        path.unlink()
    chosen = {f"model.{name}": "null" for name in ("descriptor", "positions", "min_std", "softness")}
    chosen |= {"data.root": parts, "model.components": "null", "model.gated": gated}
    status, sentences, run = fit(chosen)
    if count < 3 and gated == "true":
        assert status == 1
        assert "needs at least 3 different images" in sentences[0]
    else:
        assert status == 0
        expect_use(run, ["predict"])


def fail_in(first, *rest):
    """Raises an error in the last of several modules that call one another."""
    source = "fail_in(*rest)" if rest else "raise RuntimeError"
    exec(source, {"__name__": first, "fail_in": fail_in, "rest": rest})


@pytest.mark.parametrize(
    ("modules", "refused"),
    [
        (["vtadl.cli.lightning_cli", "lightning.pytorch"], True),
        (["vtadl.cli.lightning_cli", "lightning.pytorch", "torch.optim"], True),
        (["vtadl.cli.lightning_cli", "lightning.pytorch", "vtadl.lightning_module"], False),
        (["vtadl.cli.lightning_cli", "lightning.pytorch", "vtadl.lightning_module", "torch.nn"], False),
    ],
)
def test_only_errors_of_lightning_itself_are_attributed_to_settings(modules, refused):
    with pytest.raises(RuntimeError) as raised:
        fail_in(*modules)
    assert raised_by_lightning(raised.value) == refused
