"""The comparison loop over real runners: what passes, what fails, and whom the findings name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from runners.small_models import TwoHeads, images, specs, torch_runner, write_onnx

from gspn2_deploy.errors import PlatformError, UsageError
from gspn2_deploy.runners.base import Runner
from gspn2_deploy.runners.golden_runner import GoldenRunner, Recording
from gspn2_deploy.runners.onnxruntime_runner import OnnxRuntimeRunner
from gspn2_deploy.validate.blame import Suspect
from gspn2_deploy.validate.report import render
from gspn2_deploy.validate.run import validate
from gspn2_deploy.validate.samples import Sample
from gspn2_deploy.validate.tolerances import MODEL_TOLERANCES

FP32 = MODEL_TOLERANCES["fp32"]


class Scripted(Runner):
    """Answers with a function of the inputs."""

    def __init__(self, name, answer, *, runs=True):
        super().__init__(name)
        self.answer = answer
        self.runs = runs

    input_specs = specs()
    output_names = ("logits",)

    def activate(self):
        pass

    def deactivate(self):
        pass

    def can_run(self, inputs):
        return self.runs

    def infer_impl(self, inputs):
        return {"logits": self.answer(inputs["images"])}


def pooled(values):
    return values.mean(axis=(2, 3))


def samples(count=2, **fields):
    return [
        Sample(f"sample {seed}", {"images": images(4, seed=seed)}, **fields)
        for seed in range(count)
    ]


def compared(*answers, require_top1=None, given=None, names="abcdef"):
    """Validate scripted runners, the first being the reference."""
    runners = [
        answer if isinstance(answer, Runner) else Scripted(name, answer)
        for name, answer in zip(names, answers, strict=False)
    ]
    for runner in runners:
        runner.__enter__()
    given = samples() if given is None else given
    return validate(runners[0], runners[1:], given, FP32, require_top1=require_top1)


def onnxruntime(tmp_path, **options):
    return OnnxRuntimeRunner(write_onnx(tmp_path / "model.onnx", **options))


def record(model=None):
    with torch_runner(model) as live:
        return GoldenRunner(
            [Recording(item.inputs, live.infer(item.inputs)) for item in samples(1)]
        )


def test_three_runners_agree(tmp_path):
    with torch_runner() as live, onnxruntime(tmp_path) as ort, record() as golden:
        report = validate(live, [ort, golden], samples(), FP32)
    assert report.passed
    assert [(case.sample, case.candidate) for case in report.cases] == [
        ("sample 0", "onnxruntime"),
        ("sample 0", "golden"),
        ("sample 1", "onnxruntime"),
    ]
    assert report.findings == ()
    assert report.scores["onnxruntime"].agreement == 1
    assert report.verdict.startswith("PASS: onnxruntime, golden equals pytorch in 3")


def test_one_perturbed_weight_fails(tmp_path):
    model = TwoHeads()
    with torch.no_grad():
        model.aux[1, 3] += 1e-2
    with torch_runner() as live, onnxruntime(tmp_path, model=model) as ort, record() as golden:
        report = validate(live, [ort, golden], samples(), FP32)
    assert not report.passed
    assert {case.candidate for case in report.cases if not case.passed} == {"onnxruntime"}
    assert all(reason.startswith("aux:") for case in report.cases for reason in case.reasons)
    assert "golden agrees with pytorch: look at onnxruntime" in report.findings[0]


def test_swapped_outputs_fail(tmp_path):
    with torch_runner() as live, onnxruntime(tmp_path, outputs=("aux", "logits")) as ort:
        report = validate(live, [ort], samples(), FP32)
    assert not report.passed
    assert {output.name for output in report.cases[0].outputs if output.failures} == {
        "logits",
        "aux",
    }


def test_another_output_name_fails(tmp_path):
    with torch_runner() as live, onnxruntime(tmp_path, outputs=("logits", "more")) as ort:
        report = validate(live, [ort], samples(), FP32)
    assert any("aux: missing" in reason for reason in report.cases[0].reasons)
    assert any("more: not in the reference" in reason for reason in report.cases[0].reasons)


def test_another_model_than_the_exported_one_is_recognised(tmp_path):
    with torch_runner(TwoHeads(seed=1)) as live, onnxruntime(tmp_path) as ort, record() as golden:
        report = validate(live, [ort, golden], samples(), FP32)
    assert not report.passed
    assert "pytorch is the odd one out" in report.findings[0]


def test_nan_fails():
    def broken(values):
        return np.where(np.arange(2) == 1, np.float32(np.nan), pooled(values))

    report = compared(pooled, broken)
    assert not report.passed
    assert "NaN in the output" in report.cases[0].reasons[0]
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_reference_that_is_not_finite_is_to_blame_itself():
    def overflows(values):
        return np.where(np.arange(2) == 1, np.float32(np.inf), pooled(values))

    report = compared(overflows, overflows, overflows)
    assert not report.passed
    assert [item.suspect for item in report.blames] == [Suspect.NOT_FINITE]
    assert "a itself answers NaN or Inf" in report.findings[0]


def test_a_runner_that_answered_nothing_fails():
    report = compared(pooled, pooled, Scripted("c", pooled, runs=False))
    assert all(case.passed for case in report.cases)
    assert not report.passed
    assert report.failures == ("c: nothing was compared",)


def test_no_samples_fail():
    report = compared(pooled, pooled, given=[])
    assert not report.passed
    assert report.verdict == "FAIL: b: nothing was compared"


def test_a_runner_that_cannot_run_a_sample_is_a_result():
    def refuse(values):
        raise PlatformError("Reshape failed")

    report = compared(pooled, refuse, pooled)
    assert [case.error for case in report.cases] == ["Reshape failed", None] * 2
    assert not report.passed
    assert "c agrees with a: look at b" in report.findings[0]


def test_a_comparison_needs_two_runners_of_different_names():
    with pytest.raises(UsageError):
        compared(pooled)
    with pytest.raises(UsageError):
        compared(pooled, pooled, names="aa")


class TestTop1:
    @classmethod
    def tied(cls, values):
        result = pooled(values)
        result[0] = result[0].mean()
        result[0, 1] += 1e-6
        return result

    @classmethod
    def tied_the_other_way(cls, values):
        result = cls.tied(values)
        result[0] = result[0, ::-1]
        return result

    def test_flips_within_the_tolerance_pass_unless_top1_is_required(self):
        assert compared(self.tied, self.tied_the_other_way).passed
        assert compared(self.tied, self.tied_the_other_way, require_top1=0.7).passed
        report = compared(self.tied, self.tied_the_other_way, require_top1=1.0)
        assert not report.passed
        assert "the same class on 6 of 8 images (75.00%)" in report.failures[0]

    def test_only_the_users_images_count_where_there_are_any(self):
        given = [*samples(1), *samples(1, first=0)]
        report = compared(self.tied, self.tied_the_other_way, given=given)
        assert report.scores["b"].items == 4

    def test_top1_without_classes_fails(self):
        report = compared(lambda v: v, lambda v: v, require_top1=0.5)
        assert "top-1 was not compared" in report.failures[0]

    def test_accuracy_and_images(self):
        given = samples(1, first=10, labels=np.array([0, 0, 0, 0]))
        expected = pooled(given[0].inputs["images"]).argmax(axis=1)
        report = compared(pooled, pooled, given=given)
        assert report.scores["a"].correct == (expected == 0).sum()
        assert report.scores["b"].accuracy == pytest.approx((expected == 0).mean())
        assert [image.item for image in report.images] == [10, 11, 12, 13]
        assert [image.classes["b"] for image in report.images] == expected.tolist()
        assert all(image.agree and image.label == 0 for image in report.images)

    def test_a_label_that_is_no_class_is_refused(self):
        given = samples(1, first=10, labels=np.array([0, 1, 7, 9]))
        with pytest.raises(UsageError, match="the label of item 12") as raised:
            compared(pooled, pooled, given=given)
        assert raised.value.got == 7

    def test_a_playback_without_the_users_images_is_not_required_to_know_them(self, tmp_path):
        own = [Sample("own", {"images": images(4, seed=9)}, first=0)]
        with torch_runner() as live, onnxruntime(tmp_path) as ort, record() as golden:
            report = validate(live, [ort, golden], [*samples(1), *own], FP32, require_top1=1.0)
        assert report.passed
        assert set(report.scores) == {"pytorch", "onnxruntime"}


def test_inputs_that_change_nothing_are_warned_of():
    def constant(values):
        return np.ones((len(values), 1), np.float32) * np.arange(1, 4, dtype=np.float32)

    report = compared(constant, constant)
    assert report.passed
    assert "--data" in report.warnings[0]
    assert compared(pooled, pooled).warnings == ()


def test_report_as_json_and_as_text(tmp_path):
    with torch_runner(TwoHeads(seed=1)) as live, onnxruntime(tmp_path) as ort:
        report = validate(live, [ort], samples(20), FP32, context={"onnx": {"path": "m[0].onnx"}})
    body = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert body["passed"] is False
    assert body["onnx"] == {"path": "m[0].onnx"}
    assert body["runners"][1]["optimization"] == "all"
    output = body["cases"][0]["outputs"][0]
    assert {"name", "shape", "errors", "top1", "failures", "not_finite"} <= set(output)
    assert set(output["errors"]["quantiles"]) == {"p50", "p90", "p99", "p99.9"}
    text = render(report)
    assert "FAIL: onnxruntime differs from pytorch in 20 of 20" in text
    assert "more (--json shows all)" in text


def test_the_worst_comparison_stands_first_in_the_text():
    def off(values):
        scale = 1 + 1e-5 if values[0, 0, 0, 0] == images(4, seed=1)[0, 0, 0, 0] else 1
        return pooled(values) * np.float32(scale)

    text = render(compared(pooled, off, given=samples(3)))
    assert text.index("sample 1") < text.index("sample 0")
