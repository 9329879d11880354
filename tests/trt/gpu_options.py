"""Builds with the options of the command line, for ``gpu_day.py``."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_day import Command, Step
from gpu_places import LONGEST, Places


def option_steps(at: Places) -> list[Step]:
    """Builds of nano with each option of the command line that 8.6 has, and what it refuses.

    They are built at the fast level, but for the one whose option is the level.
    """
    onnx = at.work / "models/nano-fp16.onnx"
    golden = at.work / "models/nano-fp16.golden.npz"
    load = at.source / "tests/trt/load_plan.py"

    def built(
        name: str, *options: str, level: int = 1, validated: bool = True, **checks: object
    ) -> Step:
        plan = at.work / "plans" / f"{name}.plan"

        def commands() -> Sequence[Command]:
            words = ("--optimization-level", level, *options, "--json")
            arguments = ("build", onnx, "-o", plan, "--backend", "tensorrt", *words)
            made = [at.deploy(*arguments, output=at.result(f"option-{name}"))]
            if validated:
                made.append(at.deploy("validate", onnx, "--golden", golden, "--engine", plan))
            if checks:
                arguments = (load, plan, *(f"{key}={value}" for key, value in checks.items()))
                made.append(at.tensorrt(*arguments, output=at.result(f"load-{name}")))
            return made

        estimate, limit = (110, 400) if level < 5 else (300, LONGEST)
        return Step(f"option:{name}", commands, estimate, limit, ("build:nano-fp16",))

    def refused() -> Sequence[Command]:
        plan = at.work / "plans/refused.plan"
        build = ("build", onnx, "-o", plan, "--backend", "tensorrt")
        return [
            at.deploy(
                *build, "--weights", "stripped", codes=(2,), said=("TensorRT 10.0 or later",)
            ),
            at.deploy(
                *build,
                *("--hardware-compatibility", "same-compute-capability"),
                codes=(2,),
                said=("TensorRT 10.12 or later",),
            ),
            at.deploy(
                *build, "--compute-capability", "8.0", codes=(2,), said=("only for the GPU",)
            ),
        ]

    plan = at.work / "models/nano-fp16.plan"

    def unplugged() -> Sequence[Command]:
        return [
            at.tensorrt(load, plan, "plugin=no", "loads=no", output=at.result("load-unplugged"))
        ]

    several = ["images=1x1x8x8", "images=8x1x8x8:16x1x8x8:64x1x8x8"]
    return [
        Step("option:refused", refused, 40, 120, ("build:nano-fp16",)),
        Step("option:no-plugin", unplugged, 15, 60, ("build:nano-fp16",)),
        built("two-profiles", *(word for text in several for word in ("--profile", text))),
        built("embedded", "--embed-plugin", plugin="no", loads="yes"),
        built("refittable", "--weights", "refittable"),
        built("ampere-plus", "--hardware-compatibility", "ampere-plus"),
        built("no-sources", "--tactic-source", "none"),
        built("level-5", level=5),
        built(
            "version-compatible",
            *("--version-compatible", "--exclude-lean-runtime"),
            validated=False,
        ),
    ]
