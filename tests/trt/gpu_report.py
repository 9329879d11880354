"""Make a JSON, a log and the tables of docs/engines.md of what ``gpu_day.py`` wrote.

    gpu_report.py docs/engines-h200.json docs/engines.md FOLDER...

A folder holds what a run of ``gpu_day.py`` left under ``--out``, its archive unpacked beside: the
steps are read from each ``results.json``, the figures from any other JSON below. Of a step in
several folders the last that passed counts, else the last; of other files the last. Figures are
taken one by one and names of files left out: what is written holds no path. The log lies beside the
JSON: each step's commands and what they said, in brief. Only the tables between the page's marks
are written; what the figures mean stands around them. The table ``bodies`` is written where the
page has its marks. Needs nothing but the standard library.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from format_cost import sort_layers
from gpu_day import file_name
from gpu_steps import make_steps

Json = dict[str, Any]

_PATH = re.compile(r"(?<![\w<])/(?:[\w.+-]+/)+")
_GOAL = "tiny-fp16"  # the engine that the goals for speed are of
_DIGITS = 7  # significant ones that are kept
_MOST_SAID = 200  # characters of what TensorRT says, in a table; all of it is in the JSON
_COUNTED = "propagation"  # the kind of plugin layers that the tables count
_OPTIONAL = ("bodies",)  # tables that a page may leave out
_SAID_LINES = 12  # of a log, at its begin and at its end
# Not said by a command: JSON, what only --debug asks for, and TensorRT's word on each layer.
_UNSAID = re.compile(
    r"\s|[\[\]{}\"]|DEBUG |INFO .*(Attribute|INT64)|\[TensorRT warning\] builtin_op"
)


def read_folders(folders: Iterable[Path]) -> tuple[Json, dict[str, Json]]:
    """Return the steps by name, and every other JSON by its file's name without the ending."""
    steps: Json = {}
    files: dict[str, Json] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue  # of a command that was ended before it wrote
            if path.name != "results.json":
                files[path.stem] = content
                continue
            for name, step in content["steps"].items():
                if step["status"] == "passed" or steps.get(name, {}).get("status") != "passed":
                    steps[name] = step
    return steps, files


def make_report(steps: Mapping[str, Json], files: Mapping[str, Json]) -> Json:
    """Take the figures out of the steps and files; see the module."""

    known = [step.name for step in make_steps(Path("work"))]
    names = [*known, *(name for name in steps if name not in known)]

    def each(prefix: str, take: Callable[[Json], Any]) -> Json:
        found = {name.removeprefix(f"{prefix}-") for name in files if name.startswith(f"{prefix}-")}
        ordered = [name for name in found if f"{prefix}:{name}" not in known]
        ordered += sorted(found - set(ordered), key=lambda name: known.index(f"{prefix}:{name}"))
        return {name: take(files[f"{prefix}-{name}"]) for name in ordered}

    latency = each("bench", lambda bench: [_row(row) for row in bench["rows"]])
    report = {
        "machine": _machine(files),
        "steps": {name: _step(steps.get(name)) for name in names},
        "ops": files.get("proof"),
        "builds": each("build", _build),
        "parity": each("validate", _parity),
        "latency": latency,
        "variants": each("variants", lambda bench: [_row(row) for row in bench["rows"]]),
        "layers": {
            name: [_table(table, name == _GOAL) for table in files[f"bench-{name}"]["layers"]]
            for name in latency
        },
        "bodies": each("body", _body),
    }
    cleaned: Json = _clean(report)
    return cleaned


def _machine(files: Mapping[str, Json]) -> Json:
    benches = [file for name, file in files.items() if name.startswith("bench-")]
    rows = [row for bench in benches for row in bench["rows"] if row["device"]["kind"] == "gpu"]
    processors = {bench["machine"]["cpu"]["name"]: bench["machine"]["cpu"] for bench in benches}
    plans = {file["backend_version"] for name, file in files.items() if name.startswith("build-")}
    return {
        **files.get("machine", {}),
        "gpu_driver": ", ".join(sorted({row["device"]["driver"] for row in rows})),
        "tensorrt_library": ", ".join(sorted(plans)),
        "tensorrt_python": files.get("tensorrt", {}).get("tensorrt"),
        "cpu": [f"{cpu['name']}, {cpu['cores']} cores" for cpu in processors.values()],
        "measured": sorted({bench["machine"]["created"] for bench in benches}),
    }


def _step(step: Json | None) -> Json:
    if step is None:
        return {"status": "not run", "seconds": None}
    return {"status": step["status"], "seconds": step["seconds"]}


def _build(manifest: Json) -> Json:
    keys = ("plan_bytes", "build_seconds", "layer_dtypes", "engine_dtypes", "unproven", "created")
    shapes = [
        {name: [ranges[key] for key in ("min", "opt", "max")] for name, ranges in profile.items()}
        for profile in manifest["profiles"]
    ]
    options = {key: manifest["options"][key] for key in ("precision_constraints", "tactic_sources")}
    return {
        "optimization_level": manifest["options"]["optimization_level"],
        **{key: manifest[key] for key in keys},
        "profiles": shapes,
        **options,
    }


def _parity(report: Json) -> Json:
    rows: dict[tuple[str, int], Json] = {}
    for case in report["cases"]:
        batch = next(iter(case["shapes"].values()))[0]
        row = rows.setdefault(
            (case["candidate"], batch),
            {"executor": case["candidate"], "batch": batch, "samples": 0, "passed": True}
            | dict.fromkeys(("of_tolerance", "of_scale", "one_minus_cosine"), 0.0),
        )
        row["samples"] += 1
        row["passed"] &= case["passed"]
        for output in case["outputs"]:
            errors = output["errors"]
            row["of_tolerance"] = max(row["of_tolerance"], errors["worst_ratio"])
            row["of_scale"] = max(row["of_scale"], errors["max_scaled"])
            row["one_minus_cosine"] = max(row["one_minus_cosine"], 1.0 - errors["cosine"])
    proof = report["engine_proof"]
    # Reports of before the kinds were told apart list the propagations alone.
    plugins = [item for item in proof["plugins"] if item.get("kind", _COUNTED) == _COUNTED]
    ran = [plugin for plugin in plugins if plugin["milliseconds"] is not None]
    return {
        "passed": report["passed"],
        "tolerance": report["tolerance"],
        "top1": {
            name: {"items": top1["items"], "agreeing": top1["agreeing"]}
            for name, top1 in report["top1"].items()
        },
        "rows": list(rows.values()),
        "plugin_types": dict(Counter(str(plugin["dtype"]) for plugin in ran)),
        "plugins": len(plugins),
        "engine_layers": proof["layers"],
    }


def _row(row: Json) -> Json:
    def times(name: str) -> Json | None:
        figures = row[name]
        keys = ("median", "p90", "p99", "min", "runs")
        return None if figures is None else {key: figures[key] for key in keys}

    single = ("subject", "model", "items", "error", "steady", "agrees_with_first", "earlier")
    kept = {key: row[key] for key in single}
    return {
        **kept,
        "earlier": kept["earlier"] is not None,  # of another process, as --add read it
        "latency_ms": times("latency_ms"),
        "compute_ms": times("compute_ms"),
        "items_per_second": row["items_per_second"],
        "prepare_seconds": row["prepare_seconds"],
        "memory_bytes": row["memory"]["bytes"] if row["memory"] else None,
        "sm_mhz": [row["state"][key]["sm_mhz"] for key in ("before", "after")],
    }


def _table(table: Json, whole: bool) -> Json:
    """A table of layers, group by group, with what each group moves at least."""
    groups: dict[str, Json] = {}
    for layer in table["layers"]:
        none = {"layers": 0, "ms": 0.0, "bytes": 0, "types": Counter()}
        group = groups.setdefault(layer["group"], none)
        if layer["milliseconds"]:
            group["layers"] += 1
            group["ms"] += layer["milliseconds"]
            group["bytes"] += layer["bytes"] or 0
            group["types"][str(layer["dtype"])] += 1
    for group in groups.values():
        moved = group["bytes"] / (group["ms"] / 1e3) if group["ms"] else 0.0
        group["share"] = group["ms"] / table["milliseconds"]
        group["of_copy"] = moved / table["copy_bytes_per_second"]
    kept = ("subject", "shapes", "milliseconds", "copy_bytes_per_second", "propagation_share")
    return {
        **{key: table[key] for key in kept},
        "bound": table["bound"],
        "groups": dict(sorted(groups.items(), key=lambda item: -item[1]["ms"])),
        "formats_ms": sort_layers(table),
        "longest": [
            {key: layer[key] for key in ("name", "kind", "milliseconds", "of_copy")}
            for layer in table["layers"][:5]
        ],
        # Of the one that the goals are of, every layer: ms, share of a copy, group and name.
        "layers": [_layer(layer) for layer in table["layers"] if layer["milliseconds"]]
        if whole
        else None,
    }


def _layer(layer: Json) -> str:
    moved = "" if layer["of_copy"] is None else f"{layer['of_copy']:.0%}"
    return f"{layer['milliseconds']:.4f} ms {moved:>4}  {layer['group']}: {layer['name']}"


def _body(report: Json) -> Json:
    """The function bodies' engine beside the plugin's; why there is none where there is none."""
    engines = {
        name: {
            **{key: engine[key] for key in ("build_seconds", "plan_bytes", "compute_ms")},
            "precision_constraints": engine["options"]["precision_constraints"],
            "parity": {
                batch: {key: row[key] for key in ("samples", "passed", "of_tolerance", "of_scale")}
                for batch, row in engine["parity"].items()
            },
        }
        for name, engine in report["engines"].items()
    }
    kept = ("built", "passed", "attempts")
    return {**{key: report[key] for key in kept}, "error": report.get("error"), "engines": engines}


def _clean(value: Any) -> Any:
    """Leave folders out of texts, and digits that mean nothing out of numbers."""
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return _PATH.sub("", value) if isinstance(value, str) else value


def make_log(steps: Mapping[str, Json], folders: Iterable[Path]) -> str:
    """Return each step's commands and what they said, in brief."""
    logs = {path.stem: path for folder in folders for path in sorted(folder.rglob("*.log"))}
    texts = []
    for name, step in steps.items():
        texts.append(f"== {name}: {step['status']}, {step['seconds']:.0f} s\n")
        for command in step["commands"]:
            argv = " ".join(map(str, command["argv"]))
            first = textwrap.shorten(argv, _MOST_SAID, placeholder=" ...")
            texts.append(f"$ {first}\n  exit {command['code']}, {command['seconds']:.0f} s\n")
        path = logs.get(file_name(name))
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []
        said = [line for line in lines if line and not line.startswith("$ ")]
        said = [line for line, _ in itertools.groupby(said) if not _UNSAID.match(line)]
        left = len(said) - 2 * _SAID_LINES
        if left > 0:
            said[_SAID_LINES:-_SAID_LINES] = [f"... {left} lines"]
        texts += [f"| {line}\n" for line in said]
    cleaned: str = _clean("".join(texts))
    return cleaned


# The page's tables.


def tables(report: Json) -> dict[str, str]:
    """Return each table in Markdown, by the name in its marks."""
    return {
        "steps": _lines(("steps", "passed", "did not pass", "not run"), _step_rows(report)),
        "builds": _lines(
            ("engine", "level", "build", "plan", "layers of the file"), _build_rows(report)
        ),
        "parity": _lines(
            (
                *("engine", "batch", "samples", "of the tolerance", "of the rms", "onnxruntime"),
                *("same top-1, all batches", "plugin layers"),
            ),
            _parity_rows(report),
        ),
        "latency": _wide_lines(("model", "batch"), _latency_rows(report)),
        "layers": _wide_lines(("engine", "batch", "layers", "ms"), _layer_rows(report)),
        "bodies": _lines(
            (
                *("model", "propagations", "build", "plan", "of the tolerance, worst batch"),
                *("batch", "compute", "against the plugin"),
            ),
            _body_rows(report),
        ),
    }


def _step_rows(report: Json) -> Iterable[tuple[object, ...]]:
    groups: dict[str, tuple[list[str], list[str], list[str]]] = {}
    for name, step in report["steps"].items():
        group, _, what = name.partition(":")
        passed, wrong, left = groups.setdefault(group, ([], [], []))
        if step["seconds"] is None:
            left.append(what)
        elif step["status"] == "passed":
            passed.append(f"{what} {step['seconds']:.0f} s")
        else:
            wrong.append(f"{what} {step['status']}, {step['seconds']:.0f} s")
    for group, (passed, wrong, left) in groups.items():
        yield group, ", ".join(passed), "; ".join(wrong), ", ".join(left)


def _build_rows(report: Json) -> Iterable[tuple[object, ...]]:
    for name, build in report["builds"].items():
        types = ", ".join(f"{count} {dtype}" for dtype, count in build["layer_dtypes"].items())
        seconds, size = f"{build['build_seconds']:.0f} s", f"{build['plan_bytes'] / 1e6:.1f} MB"
        yield name, build["optimization_level"], seconds, size, types


def _parity_rows(report: Json) -> Iterable[tuple[object, ...]]:
    for name, parity in report["parity"].items():
        other = {row["batch"]: row for row in parity["rows"] if row["executor"] == "onnxruntime"}
        top1 = parity["top1"]["tensorrt"]
        types = ", ".join(f"{count} {dtype}" for dtype, count in parity["plugin_types"].items())
        for row in parity["rows"]:
            if row["executor"] != "tensorrt":
                continue
            beside = f"{other[row['batch']]['of_tolerance']:.1%}" if row["batch"] in other else ""
            errors = (f"{row['of_tolerance']:.1%}", f"{row['of_scale']:.1e}", beside)
            agree = f"{top1['agreeing']} of {top1['items']}"
            yield (name, row["batch"], row["samples"], *errors, agree, types)


def _latency_rows(report: Json) -> Iterable[tuple[tuple[object, ...], dict[str, str]]]:
    """Of each model and batch the compute time by executor, and the fastest ones' ratio."""
    for name, rows in report["latency"].items():
        for batch in dict.fromkeys(row["items"] for row in rows):
            own = [row for row in rows if row["items"] == batch]
            times = {row["subject"]: row["compute_ms"]["median"] for row in own}
            cells = {f"{subject}, ms": f"{time:#.3g}" for subject, time in times.items()}
            engine = [row for row in own if row["subject"].startswith("tensorrt")]
            others = [time for subject, time in times.items() if subject.startswith("pytorch")]
            if engine and others:
                fastest = min(engine, key=lambda row: float(row["compute_ms"]["median"]))
                ratio = min(others) / fastest["compute_ms"]["median"]
                cells["fastest engine, images/s"] = f"{fastest['items_per_second']:,.0f}"
                cells["against the fastest PyTorch"] = f"{ratio:.2f}x"
            yield (name, batch), cells


def _layer_rows(report: Json) -> Iterable[tuple[tuple[object, ...], dict[str, str]]]:
    """Of each engine and batch the groups of layers: ms, their share, and that of a copy."""
    for name, every in report["layers"].items():
        for table in every:
            batch = next(iter(table["shapes"].values()))[0]
            groups = {title: one for title, one in table["groups"].items() if one["layers"]}
            count = sum(group["layers"] for group in groups.values())
            cells = {
                title: f"{group['ms']:.3f}, {group['share']:.0%}, {group['of_copy']:.0%}"
                for title, group in groups.items()
            }
            yield (name, batch, count, f"{table['milliseconds']:.2f}"), cells


def _body_rows(report: Json) -> Iterable[tuple[object, ...]]:
    for name, body in report["bodies"].items():
        engines = body["engines"]
        first = engines["plugin"]["compute_ms"]
        for what, title in (("plugin", "plugin"), ("body", "function body")):
            if what not in engines:
                said = " ".join(" ".join(body["error"] or ["no word of why"]).split())
                said = textwrap.shorten(said, _MOST_SAID, placeholder=" ...").replace("|", "/")
                yield (name, title, f"none: {said}", *[""] * 5)
                continue
            engine = engines[what]
            worst = max(row["of_tolerance"] for row in engine["parity"].values())
            figures = (
                *(f"{engine['build_seconds']:.0f} s", f"{engine['plan_bytes'] / 1e6:.1f} MB"),
                f"{worst:.1%}",
            )
            for batch, times in engine["compute_ms"].items():
                compute = times["median"]
                ratio = first[batch]["median"] / compute
                yield (name, title, *figures, batch, f"{compute:.3f} ms", f"{ratio:.2f}x")


def _lines(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    every = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in every)


def _wide_lines(
    head: tuple[str, ...], rows: Iterable[tuple[tuple[object, ...], Mapping[str, str]]]
) -> str:
    """A table with a column for each name that a row has a cell for, in order of appearance."""
    every = list(rows)
    names = tuple(dict.fromkeys(name for _, cells in every for name in cells))
    return _lines(
        head + names, ((*first, *(cells.get(name, "") for name in names)) for first, cells in every)
    )


def fill_page(text: str, filled: Mapping[str, str]) -> str:
    """Put tables between the marks ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        ValueError: The page lacks the marks of a table that it may not leave out.
    """
    for name, table in filled.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if name in _OPTIONAL and begin not in text:
            continue
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"the page has no marks for {name}")
        text = head + begin + table + end + tail
    return text


def main() -> None:
    """Write what the command line names."""
    target, page, *folders = map(Path, sys.argv[1:])
    steps, files = read_folders(folders)
    report = make_report(steps, files)
    target.with_suffix(".log").write_text(make_log(steps, folders), encoding="utf-8")
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    page.write_text(fill_page(page.read_text(encoding="utf-8"), tables(report)), encoding="utf-8")


if __name__ == "__main__":
    main()
