"""Models by name and by ``package.module:factory``."""

import logging
import sys

import pytest
import torch
from torch import nn

from gspn2_deploy.errors import ModelFactoryError, UnknownModelError
from gspn2_deploy.models import Gspn2, create_model, list_models, load_checkpoint, register_model

FACTORIES = """
import torch

class Net(torch.nn.Linear):
    pass

def good(width=4):
    return Net(width, 2)

def raises():
    raise RuntimeError("no weights at /data")

def exits():
    raise SystemExit("usage: train.py --data")

def wrong():
    return {"state_dict": {}}

def scripted():
    return torch.jit.ScriptModule()

def compiled():
    return torch.compile(Net(4, 2), backend="eager")

def parallel():
    return torch.nn.DataParallel(torch.compile(Net(4, 2), backend="eager"))

def distributed():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return torch.compile(torch.nn.parallel.DistributedDataParallel(Net(4, 2)), backend="eager")
    finally:
        torch.distributed.destroy_process_group()

def lazy():
    import gspn2_test_helper
    return gspn2_test_helper.Helper()

constant = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module in the working directory only; its name, removed from the imports afterwards."""
    (tmp_path / "gspn2_test_models.py").write_text(FACTORIES)
    (tmp_path / "gspn2_test_broken.py").write_text("import gspn2_test_absent\n")
    (tmp_path / "gspn2_test_syntax.py").write_text("def (\n")
    (tmp_path / "gspn2_test_helper.py").write_text("import torch\nHelper = torch.nn.Identity\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield "gspn2_test_models"
    assert sys.path == path
    for name in [name for name in sys.modules if name.startswith("gspn2_test_")]:
        del sys.modules[name]


def test_names():
    assert {"tiny", "small", "base", "nano"} <= set(list_models())
    assert list_models() == sorted(list_models())


def test_overrides():
    model = create_model("nano", num_classes=3)
    assert isinstance(model, Gspn2)
    assert model.config.num_classes == 3
    assert model.head.out_features == 3


@pytest.mark.parametrize(("name", "meant"), [("tyni", "tiny"), ("gspn2-base", "base")])
def test_an_unknown_name_is_answered_with_suggestions(name, meant):
    with pytest.raises(UnknownModelError) as caught:
        create_model(name)
    assert caught.value.hint is not None
    assert meant in caught.value.hint
    assert "nano" in str(caught.value.expected)


def test_an_unknown_name_like_no_other_lists_all():
    with pytest.raises(UnknownModelError) as caught:
        create_model("zzzzzz")
    assert caught.value.hint is None
    assert "tiny" in str(caught.value)


def test_a_name_is_registered_once():
    def nano():
        return nn.Identity()

    with pytest.raises(ValueError, match="nano"):
        register_model(nano)


def test_a_factory_in_the_working_directory(user_module, caplog):
    with caplog.at_level(logging.WARNING):
        model = create_model(f"{user_module}:good", width=6)
    assert type(model).__name__ == "Net"
    assert model.in_features == 6
    assert f"running your code: {user_module}:good" in caplog.text


@pytest.mark.parametrize("attribute", ["compiled", "parallel", "distributed"])
def test_wrappers_are_taken_off(user_module, attribute, tmp_path):
    model = create_model(f"{user_module}:{attribute}")
    assert type(model).__name__ == "Net"
    assert list(model.state_dict()) == ["weight", "bias"]
    trained = torch.compile(nn.Linear(4, 2), backend="eager")
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    load_checkpoint(model, tmp_path / "weights.pt")
    assert torch.equal(model.weight, trained.weight)


@pytest.mark.parametrize("attribute", ["Net", "lazy"])
def test_classes_and_late_imports_work(user_module, attribute):
    kwargs = {"in_features": 2, "out_features": 1} if attribute == "Net" else {}
    assert isinstance(create_model(f"{user_module}:{attribute}", **kwargs), nn.Module)


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        ("gspn2_test_models:raises", ["RuntimeError: no weights at /data", "gspn2_test_models.py"]),
        ("gspn2_test_models:exits", ["SystemExit: usage: train.py --data"]),
        ("gspn2_test_models:wrong", ["did not return a model", "dict"]),
        ("gspn2_test_models:scripted", ["did not return a model", "ScriptModule"]),
        ("gspn2_test_models:god", ["has no 'god'", "did you mean good?"]),
        ("gspn2_test_models:constant", ["not callable", "int"]),
        ("gspn2_test_nowhere:make", ["no module named gspn2_test_nowhere", "not found from"]),
        ("gspn2_test_nowhere.sub:make", ["no module named gspn2_test_nowhere"]),
        ("gspn2_test_models.sub:make", ["no module named gspn2_test_models.sub"]),
        ("gspn2_test_broken:make", ["ModuleNotFoundError", "gspn2_test_absent", "importing"]),
        ("gspn2_test_syntax:make", ["SyntaxError", "importing gspn2_test_syntax"]),
        ("gspn2_test_models:", ["package.module:factory"]),
        (":make", ["package.module:factory"]),
        ("a..b:make", ["no module named a "]),
    ],
)
def test_a_bad_factory_is_explained(user_module, target, texts):
    with pytest.raises(ModelFactoryError) as caught:
        create_model(target)
    for text in texts:
        assert text in str(caught.value)


def test_the_original_exception_is_kept(user_module):
    with pytest.raises(ModelFactoryError) as caught:
        create_model(f"{user_module}:raises")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_arguments_that_the_factory_does_not_take(user_module):
    with pytest.raises(ModelFactoryError, match="unexpected keyword argument 'depth'") as caught:
        create_model(f"{user_module}:good", depth=3)
    assert "--model-arg" in caught.value.hint
