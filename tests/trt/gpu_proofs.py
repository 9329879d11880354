"""Proofs beside the engines' own, for ``gpu_day.py``: bisection, and the function bodies' engines.

A bisection builds two engines: of the file with its blocks marked, and of the blocks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpu_day import Command, Step
from gpu_places import PRECISIONS, WRONG_BLOCK, WRONG_SIZE, Places

_BUILD_SECONDS = 360  # then the build of a body's engine says itself that it has not ended


def bisect_steps(at: Places) -> list[Step]:
    """Have an engine looked into that is right, and one that is wrong from a known block on.

    The second is the same plan over a kernel library that leaves an input out where maps have a
    certain size, which the engines that are built to look into it run on too. To exchange the plan
    would prove nothing: its manifest would refuse it, and they are built from the file anew.
    """
    onnx, plan = at.model("nano", "fp32", ".onnx"), at.model("nano", "fp32", ".plan")
    golden = at.model("nano", "fp32", ".golden.npz")
    arguments = ("validate", onnx, "--golden", golden, "--engine", plan, "--bisect", "--json")

    def right() -> Sequence[Command]:
        said = ('"first_bad": null',)
        return [at.deploy(*arguments, output=at.result("bisect-nano"), said=said)]

    def wrong() -> Sequence[Command]:
        library = at.work / "libwrong_block.so"
        height, width = WRONG_SIZE
        compiler = (
            *("c++", "-std=c++17", "-shared", "-fPIC", "-I", str(at.source / "plugins/include")),
            *(f"-DWRONG_HEIGHT={height}", f"-DWRONG_WIDTH={width}"),
            *(str(at.source / "tests/trt/wrong_block.cpp"), "-o", str(library), "-ldl"),
        )
        said = (f'"first_bad": "{WRONG_BLOCK}"', '"suspect": "the plugin"')
        output = at.result("bisect-nano-wrong")
        command = at.deploy(*arguments, output=output, codes=(1,), said=said)
        env = {**command.env, "LD_PRELOAD": str(library)}
        return [Command(compiler), replace(command, env=env)]

    needs = ("validate:nano-fp32",)
    return [
        Step("bisect:nano", right, 165, 450, needs),
        Step("bisect:nano-wrong", wrong, 165, 450, needs),
    ]


def body_steps(at: Places) -> list[Step]:
    """The engines that TensorRT builds from nano's function bodies, beside those with the plugin.

    They are built side by side with others, and measured alone. That TensorRT cannot build one is
    a finding, and no failure.
    """
    script = at.source / "tests/trt/body_engine.py"

    def steps(precision: str) -> list[Step]:
        full = f"nano-{precision}"
        onnx, plan = at.model("nano", precision, ".onnx"), at.model("nano", precision, ".plan")
        golden = at.model("nano", precision, ".golden.npz")
        body, built = at.work / "plans" / f"body-{full}.plan", at.result(f"bodybuild-{full}")

        def build() -> Sequence[Command]:
            arguments = ("build", onnx, plan, body, _BUILD_SECONDS)
            return [at.tensorrt(script, *arguments, output=built)]

        def measure() -> Sequence[Command]:
            arguments = ("measure", built, plan, body, golden)
            return [at.tensorrt(script, *arguments, output=at.result(f"body-{full}"))]

        return [
            Step(f"bodybuild:{full}", build, 200, _BUILD_SECONDS + 60, (f"validate:{full}",)),
            Step(f"body:{full}", measure, 45, 200, (f"bodybuild:{full}",), alone=True),
        ]

    return [step for precision in PRECISIONS for step in steps(precision)]
