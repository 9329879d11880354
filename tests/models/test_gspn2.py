"""The models: what the paper states of them, and what a deployment asks of them."""

import dataclasses
import json

import pytest
import torch

from gspn2_deploy.errors import ShapeError, UsageError
from gspn2_deploy.models import ModelConfig, count_macs, count_parameters, create_model
from gspn2_deploy.spec import PROP2D_ATTRIBUTES

PAPER = {  # Source: GSPN-2 (arXiv 2512.07884), ImageNet-1K at 224 px with C_proxy = 2
    "tiny": (24e6, 4.2e9),
    "small": (50e6, 9.2e9),
    "base": (89e6, 14.2e9),
}
TOLERANCE = 0.03
# Against float32 on the same rounded weights, in units of the logits' spread.
SPREAD_TOLERANCE = {torch.float16: 0.02, torch.bfloat16: 0.15}


def nano(**overrides):
    torch.manual_seed(0)
    return create_model("nano", **overrides).eval()


def trained_like(model):
    """Random values everywhere, so that no zero or one hides a mistake."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def propagations(model, shape):
    """The shapes of (x, w) and the attributes of every propagation in one forward pass."""
    defaults = tuple(PROP2D_ATTRIBUTES.values())
    exported = torch.export.export(model, (torch.randn(shape),))
    calls = [n for n in exported.graph.nodes if n.target is torch.ops.gspn2.prop2d.default]
    return [
        {
            "x": tuple(call.args[0].meta["val"].shape),
            "w": tuple(call.args[2].meta["val"].shape),
            "skip": call.args[4] is not None,
            "merge": call.args[5] is not None,
            # torch.export leaves out trailing arguments that equal their defaults.
            "attributes": (*call.args[6:], *defaults[len(call.args) - 6 :]),
        }
        for call in calls
    ]


@pytest.mark.parametrize("name", PAPER)
def test_parameters_and_macs_are_the_papers(name):
    parameters, macs = PAPER[name]
    with torch.device("meta"):
        model = create_model(name)
    assert model.config.c_proxy == 2
    assert model.config.shared_affinity
    assert model.default_size == (224, 224)
    assert count_parameters(model) == pytest.approx(parameters, rel=TOLERANCE)
    assert count_macs(model, 1, 3, 224, 224) == pytest.approx(macs, rel=TOLERANCE)


def test_nano_is_small():
    assert count_parameters(nano()) < 500_000


def test_every_propagation_has_the_documented_form():
    found = propagations(nano(), (2, 3, 64, 64))
    chunks = (2, 2, 0, 0, 0)  # depths 1, 1, 2, 1 with chunks 2, 2, 0, 0
    sizes = (16, 8, 4, 4, 2)
    assert found == [
        {
            "x": (2, 2, size, size),
            "w": (2, 4, 3, 1, size, size),
            "skip": True,
            "merge": True,
            "attributes": ("sigmoid", chunk),
        }
        for size, chunk in zip(sizes, chunks, strict=True)
    ]


def test_options_reach_the_propagation():
    model = nano(c_proxy=3, shared_affinity=False, skip_gate=False, normalize="softmax")
    found = propagations(model, (2, 3, 64, 64))[0]
    assert found["x"] == (2, 3, 16, 16)
    assert found["w"] == (2, 4, 3, 3, 16, 16)
    assert not found["skip"]
    assert found["attributes"] == ("softmax", 2)


@pytest.mark.parametrize("size", [(33, 33), (33, 97), (64, 64), (75, 40), (50, 129)])
def test_any_size(size):
    model = nano()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits = model(images)
        alone = model(images[1:])
    assert logits.shape == (2, 10)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[1:], alone)  # images of a batch do not see each other


def test_distant_pixels_reach_each_other():
    model = trained_like(nano(stem_stride=1, widths=(8,), depths=(1,), chunks=(0,), grn=False))
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    features = model.stages(model.stem(images))
    # The convolutions before and after the scan reach 7 pixels: only the scan spans the row.
    features[0, :, 0, 31].sum().backward()
    assert images.grad[0, :, 0, 0].abs().max() > 0


@pytest.mark.parametrize("dtype", SPREAD_TOLERANCE, ids=str)
def test_half_precision(dtype):
    model = trained_like(nano()).to(dtype)
    images = torch.randn(4, 3, 64, 64).to(dtype)
    with torch.no_grad():
        half = model(images)
        full = model.float()(images.float())
    assert half.dtype is dtype
    assert (half - full).abs().max() < SPREAD_TOLERANCE[dtype] * full.std()


def test_autocast():
    model = nano()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(1, 3, 64, 64))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("overrides", [{}, {"shared_affinity": False, "skip_gate": False}])
def test_gradient_reaches_every_parameter(overrides):
    model = trained_like(nano(**overrides)).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_same_seed_same_weights():
    first, second = nano().state_dict(), nano().state_dict()
    torch.manual_seed(7)
    third = create_model("nano").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_blocks_keep_their_names():
    names = dict(nano().named_modules())
    assert {"stages.2.blocks.1.mixer", "stages.3.blocks.0.mlp", "stem", "head"} <= names.keys()


@pytest.mark.parametrize("affinity", [True, False], ids=["shared", "per-channel"])
def test_export_with_free_batch_height_and_width(affinity):
    model = trained_like(nano(shared_affinity=affinity))
    n, h, w = (
        torch.export.Dim("n"),
        torch.export.Dim("h", min=model.min_size),
        torch.export.Dim("w", min=model.min_size),
    )
    example = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(model, (example,), dynamic_shapes=({0: n, 2: h, 3: w},))
    for shape in [(1, 3, 64, 64), (3, 3, 33, 33), (2, 3, 45, 130)]:
        images = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(exported.module()(images), model(images))


@pytest.mark.parametrize(
    "shape", [(1, 3, 32, 64), (1, 3, 64, 32), (1, 1, 64, 64), (3, 64, 64)], ids=str
)
def test_unusable_images_are_refused(shape):
    with pytest.raises(ShapeError) as caught:
        nano()(torch.randn(shape))
    assert str(shape) in str(caught.value)
    assert "(N, 3, H, W) with H and W of at least 33" in str(caught.value)


def test_config_survives_json():
    config = nano(num_classes=7, image_size=(48, 80)).config
    assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 3


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"depths": (1, 1)}, "the same stages"),
        ({"depths": (1, 1, 0, 1)}, "depths is out of range"),
        ({"chunks": (2, 2, 0, -1)}, "chunks is out of range"),
        ({"c_proxy": 0}, "c_proxy is out of range"),
        ({"widths": 96}, "widths is of the wrong kind"),
        ({"depths": (1, 1, "2", 1)}, "depths is of the wrong kind"),
        ({"c_proxy": "2"}, "c_proxy is of the wrong kind"),
        ({"num_classes": True}, "num_classes is of the wrong kind"),
        ({"expansion": None}, "expansion is of the wrong kind"),
        ({"skip_gate": "no"}, "skip_gate is of the wrong kind"),
        ({"image_size": (64,)}, "a height and a width"),
        ({"stem_stride": 3}, "unknown stem_stride"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"mlp_ratio": 0.0}, "must be positive"),
        ({"normalize": "relu"}, "unknown normalize"),
        ({"classes": 3}, "unknown model option"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_options_are_refused(overrides, text):
    with pytest.raises(UsageError, match=text):
        nano(**overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"name": "x"}', "incomplete"),
        (json.dumps({"name": "x", "future": 1}), "unknown model option"),
    ],
)
def test_bad_json_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        ModelConfig.from_json(text)


def test_macs_by_hand():
    model = nano(stem_stride=1, widths=(8,), depths=(1,), chunks=(0,), kernel_size=3)
    stem = 3 * 4 * 9 + 4 * 8 * 9
    lpus = 2 * 8 * 9
    gates = 3 * 4 * 2 + 4 * 3  # lam, u, d for two channels; one affinity map
    mixer = 8 * 12 + 12 * 9 + 12 * 2 + 12 * gates + 2 * 12 + 12 * 8
    propagation = 4 * 2 * 7
    mlp = 2 * 8 * 32
    per_pixel = stem + lpus + mixer + propagation + mlp
    assert count_macs(model, 2, 3, 10, 12) == 2 * (10 * 12 * per_pixel + 8 * 10)


def test_counting_leaves_the_model_alone():
    model = nano().half()
    count_macs(model, 1, 3, 64, 64)
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert {p.dtype for p in model.parameters()} == {torch.float16}
