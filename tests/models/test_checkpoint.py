"""Checkpoints: what is accepted, and how each bad file is answered."""

import argparse
import logging
import os
import pickle
import warnings

import pytest
import safetensors.torch
import torch
from torch import nn

from gspn2_deploy.errors import CheckpointError, OutputError
from gspn2_deploy.models import (
    create_model,
    load_checkpoint,
    model_from_checkpoint,
    save_checkpoint,
)
from gspn2_deploy.models.checkpoint import read_metadata

OPTIONS = {"widths": (8,), "depths": (1,), "chunks": (0,)}


def small_model(seed=0, **overrides):
    torch.manual_seed(seed)
    return create_model("nano", **{**OPTIONS, **overrides})


@pytest.fixture
def trained():
    return small_model(seed=1)


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def refused(path, model=None):
    """The error of loading a file; the model must not have changed."""
    model = small_model() if model is None else model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_roundtrip_rebuilds_the_model(tmp_path, trained, dtype):
    path = tmp_path / "model.safetensors"
    save_checkpoint(trained.to(dtype), path)
    model = model_from_checkpoint(path)
    assert same(model, trained)
    assert next(model.parameters()).dtype is dtype
    assert model.config == trained.config
    assert not model.training
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
    assert read_metadata(path)["model"] == "nano"


def test_equal_models_give_equal_files(tmp_path, trained):
    # Several, because an order drawn at random agrees with itself half of the time.
    names = [f"{index}.safetensors" for index in range(8)]
    for name in names:
        save_checkpoint(trained, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in names}) == 1


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_common_forms_of_pytorch_files(tmp_path, trained, wrapper, prefix):
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    path = tmp_path / "weights.pt"
    torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, path)
    model = small_model()
    assert not same(model, trained)
    report = load_checkpoint(model, path)
    assert same(model, trained)
    assert report.missing == report.unexpected == ()


def test_a_real_data_parallel_model(tmp_path, trained):
    path = tmp_path / "weights.pt"
    torch.save(nn.DataParallel(trained).state_dict(), path)
    model = small_model()
    load_checkpoint(model, path)
    assert same(model, trained)


def test_a_wrapped_model_is_filled_and_saved_like_the_one_inside(tmp_path, trained):
    save_checkpoint(
        nn.DataParallel(torch.compile(trained, backend="eager")), tmp_path / "weights.safetensors"
    )
    assert same(model_from_checkpoint(tmp_path / "weights.safetensors"), trained)
    model = small_model()
    load_checkpoint(torch.compile(model, backend="eager"), tmp_path / "weights.safetensors")
    assert same(model, trained)


def in_parts(state, marks):
    """The keys of a state dict as they are where parts of the model were wrapped."""
    renamed = {}
    for key, value in state.items():
        for part, mark in marks.items():
            if key.startswith(f"{part}."):
                key = f"{part}.{mark}{key.removeprefix(f'{part}.')}"
        renamed[key] = value
    return renamed


@pytest.mark.parametrize(
    "marks",
    [
        {"stages.0": "_orig_mod."},
        {"stages.0": "module.", "head": "_orig_mod."},
        {"stages.0.blocks.0": "module._orig_mod.", "stages": "_orig_mod."},
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_marks_of_wrapped_parts_are_taken_out(tmp_path, trained, marks, prefix):
    state = in_parts(trained.state_dict(), marks)
    assert set(state) != set(trained.state_dict())
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "parts.pt")
    model = small_model()
    report = load_checkpoint(model, tmp_path / "parts.pt")
    assert same(model, trained)
    assert report.missing == report.unexpected == ()


def test_real_compiled_parts_on_either_side(tmp_path, trained):
    path, plain = tmp_path / "parts.safetensors", tmp_path / "plain.safetensors"
    save_checkpoint(trained, plain)
    trained.stages[0] = torch.compile(trained.stages[0], backend="eager")
    assert "stages.0._orig_mod." in next(key for key in trained.state_dict() if "stages" in key)
    save_checkpoint(trained, path)
    assert same(model_from_checkpoint(path), model_from_checkpoint(plain))
    model = small_model()
    model.head = torch.compile(model.head, backend="eager")
    load_checkpoint(model, path)
    assert torch.equal(model.stages[0].blocks[0].norm1.weight, trained.state_dict()[NORM])
    assert torch.equal(model.head.weight, trained.head.weight)


NORM = "stages.0._orig_mod.blocks.0.norm1.weight"


@pytest.mark.parametrize("damage", ["collision", "missing", "unexpected"])
def test_marks_stay_where_the_rest_is_no_whole_match(tmp_path, trained, damage):
    state = in_parts(trained.state_dict(), {"stages.0": "_orig_mod."})
    if damage == "collision":
        state["stages.0.blocks.0.norm1.weight"] = torch.zeros_like(state[NORM])
    elif damage == "missing":
        del state["head.bias"]
    else:
        state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "parts.pt")
    text = refused(tmp_path / "parts.pt")
    assert "missing: stages.0.blocks.0." in text
    assert "unexpected: stages.0._orig_mod.blocks.0." in text


def test_shapes_are_told_by_the_models_names(tmp_path, trained):
    state = in_parts(trained.state_dict(), {"stages.0": "_orig_mod."})
    state[NORM] = torch.zeros(3)
    torch.save(state, tmp_path / "parts.pt")
    text = refused(tmp_path / "parts.pt")
    assert "1 of another shape: stages.0.blocks.0.norm1.weight: checkpoint (3,)" in text
    assert "missing" not in text


class Named(nn.Module):
    """Parts of its own that are called as wrappers call theirs."""

    def __init__(self, *parts):
        super().__init__()
        for part in parts:
            self.add_module(part, nn.Linear(2, 2))


@pytest.mark.parametrize("parts", [["module"], ["module", "head"]], ids=str)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_model_with_a_part_called_module(tmp_path, parts, prefix):
    trained, model = Named(*parts), Named(*parts)
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    load_checkpoint(model, tmp_path / "weights.pt")
    assert same(model, trained)


def test_marks_that_are_all_that_tells_keys_apart_stay(tmp_path):
    model = Named("module")
    model.weight = nn.Parameter(torch.zeros(2, 2))  # "module.weight" without the mark
    state = {f"_orig_mod.{key}": value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "whole.pt")
    load_checkpoint(model, tmp_path / "whole.pt")
    del state["_orig_mod.weight"]
    torch.save(state, tmp_path / "part.pt")
    text = refused(tmp_path / "part.pt", model)
    assert "1 missing: weight" in text
    assert "unexpected" not in text


def test_the_content_decides_not_the_name(tmp_path, trained):
    model = small_model()
    save_checkpoint(trained, tmp_path / "weights.pth")
    load_checkpoint(model, tmp_path / "weights.pth")
    assert same(model, trained)
    torch.save(small_model().state_dict(), tmp_path / "weights.safetensors")
    load_checkpoint(model, tmp_path / "weights.safetensors")
    assert same(model, small_model())


def test_weights_take_the_models_dtype(tmp_path, trained):
    torch.save(trained.half().state_dict(), tmp_path / "half.pt")
    model = small_model()
    load_checkpoint(model, tmp_path / "half.pt")
    assert model.head.weight.dtype is torch.float32
    assert torch.equal(model.head.weight, trained.head.weight.float())


def test_raw_weights_go_before_averaged_ones_not_without_a_word(tmp_path, trained, caplog):
    content = {"model_ema": small_model(seed=2).state_dict(), "model": trained.state_dict()}
    torch.save(content, tmp_path / "both.pt")
    model = small_model()
    with caplog.at_level(logging.WARNING):
        load_checkpoint(model, tmp_path / "both.pt")
    assert same(model, trained)
    assert "taking 'model' and not 'model_ema'" in caplog.text


def test_tied_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_checkpoint(model, tmp_path / "tied.safetensors")
    saved = safetensors.torch.load_file(tmp_path / "tied.safetensors")
    assert torch.equal(saved["0.weight"], saved["1.weight"])


def write_truncated_torch(path, model):
    torch.save(model.state_dict(), path)
    os.truncate(path, path.stat().st_size // 2)


def write_truncated_safetensors(path, model):
    save_checkpoint(model, path)
    os.truncate(path, path.stat().st_size // 2)


def write_broken_header(path, model):
    save_checkpoint(model, path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"{x" + content[10:])


def write_truncated_legacy(path, model):
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    os.truncate(path, 300)


CORRUPT = {
    "truncated-torch": write_truncated_torch,
    "truncated-safetensors": write_truncated_safetensors,
    "truncated-legacy": write_truncated_legacy,
    "broken-header": write_broken_header,
    "text": lambda path, _: path.write_text("epoch 1 loss 0.3\n" * 9),
    "zeros": lambda path, _: path.write_bytes(bytes(999)),
    "noise": lambda path, _: path.write_bytes(bytes(i * i % 251 for i in range(2000))),
    "new-pickle": lambda path, _: path.write_bytes(pickle.dumps({"a": 1}, protocol=4)),
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_file(tmp_path, trained, kind):
    path = tmp_path / "weights"
    CORRUPT[kind](path, trained)
    text = refused(path)
    assert f"{path} is truncated, corrupt, or not a checkpoint" in text
    assert f"got:      {path.stat().st_size} bytes: " in text
    assert "weights_only" not in text.replace("``weights_only=True``", "")


def test_other_unreadable_files(tmp_path):
    assert "no such checkpoint" in refused(tmp_path / "absent.pt")
    (tmp_path / "empty.pt").touch()
    assert "is empty" in refused(tmp_path / "empty.pt")
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(tmp_path / "lfs.pt")


class Payload:
    """Unpickling it would run a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_harmful_pickle_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"model": Payload(marker)}, path)
    text = refused(path)
    assert "refused: loading it would run code" in text
    assert "posix.system" in text
    assert "save the weights alone" in text
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        (lambda model: model, "gspn2_deploy.models.gspn2.Gspn2"),
        (lambda model: {"model": model.state_dict(), "args": argparse.Namespace()}, "Namespace"),
    ],
    ids=["whole-model", "arguments-beside"],
)
def test_pickled_objects_are_refused_by_name(tmp_path, trained, content, culprit):
    path = tmp_path / "objects.pt"
    torch.save(content(trained), path)
    text = refused(path)
    assert "refused" in text
    assert culprit in text
    assert "weights_only" not in text  # no advice to switch the safety off


def test_a_torchscript_archive_is_refused(tmp_path):
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), str(path))
    assert "TorchScript archive" in refused(path)


@pytest.mark.parametrize(
    ("content", "got"),
    [([torch.zeros(1)], "list"), ({}, "dict"), ({"epoch": 1, "lr": 0.1}, '"epoch", "lr"')],
    ids=["list", "empty", "numbers"],
)
def test_a_file_without_a_state_dict(tmp_path, content, got):
    torch.save(content, tmp_path / "other.pt")
    text = refused(tmp_path / "other.pt")
    assert "holds no state dict" in text
    assert got in text


def test_key_mismatches_are_listed_and_counted(tmp_path, trained):
    state = trained.state_dict()
    missing = [key for key in state if key.startswith("stages")]
    for key in missing:
        state[f"other.{key}"] = state.pop(key)
    state["head.weight"] = torch.zeros(3, 8)
    torch.save(state, tmp_path / "other.pt")
    text = refused(tmp_path / "other.pt")
    assert len(missing) > 10
    assert f"{len(missing)} missing: {missing[0]}, " in text
    assert f"{len(missing)} unexpected: other.{missing[0]}, " in text
    assert text.count(f", and {len(missing) - 10} more") == 2
    assert missing[9] in text
    assert missing[10] not in text
    assert "1 of another shape: head.weight: checkpoint (3, 8), model (10, 8)" in text


def test_without_strict_the_rest_is_loaded_and_reported(tmp_path, trained):
    state = trained.state_dict()
    state["extra"] = state.pop("head.bias")
    torch.save(state, tmp_path / "part.pt")
    assert "strict=False" in refused(tmp_path / "part.pt")
    model = small_model()
    report = load_checkpoint(model, tmp_path / "part.pt", strict=False)
    assert report.missing == ("head.bias",)
    assert report.unexpected == ("extra",)
    assert torch.equal(model.head.weight, trained.head.weight)


@pytest.mark.parametrize(
    "state", [{"head.weight": torch.zeros(3, 8)}, {"unrelated": torch.zeros(1)}], ids=str
)
def test_without_strict_wrong_shapes_and_foreign_files_are_still_refused(tmp_path, state):
    torch.save(state, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(small_model(), tmp_path / "foreign.pt", strict=False)


def test_rebuilding_needs_a_configuration(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="does not say which model"):
        model_from_checkpoint(tmp_path / "bare.pt")
    save_checkpoint(nn.Linear(2, 2), tmp_path / "linear.safetensors")
    with pytest.raises(CheckpointError, match="does not say which model"):
        model_from_checkpoint(tmp_path / "linear.safetensors")
    assert read_metadata(tmp_path / "linear.safetensors") == {"model": "Linear"}


@pytest.mark.parametrize("config", ["{", '{"name": "nano", "rotary": true}'])
def test_a_configuration_of_another_version(tmp_path, trained, config):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path, {"model": "nano", "config": config})
    with pytest.raises(CheckpointError, match="another version"):
        model_from_checkpoint(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, trained, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(trained, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_checkpoint(small_model(), path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
