"""The exception hierarchy. Every error says what is wrong, what came, what was expected, the mend.

Gspn2Error
├── InputError                 exit code 2: what the user gave cannot be used
│   ├── UsageError             options that do not fit together, a bad configuration file
│   ├── ShapeError             a tensor or image size that the operator or model refuses
│   ├── DtypeError             an array of another element type than a runner takes
│   ├── UnknownModelError      no model of that name (with suggestions)
│   ├── ModelFactoryError      a user's factory is missing, raised, or returned something else
│   ├── CheckpointError        missing, truncated, not loadable safely, or keys that do not match
│   ├── ExportError            the model cannot be exported as asked
│   ├── OnnxFileError          a corrupt, stale or foreign ONNX file
│   └── GoldenFileError        a golden sample file that does not fit
├── ValidationFailedError      exit code 1: outputs differ, hold NaN, or nothing was compared
└── PlatformError              exit code 3: this machine cannot do it
    ├── MissingDependencyError a package is not installed (names the pip command)
    ├── KernelLibraryError     the CUDA kernel library is absent, stale, or refused a call
    ├── OutputError            the output place is not writable or full
    └── BuildError             TensorRT refused the network or the build
"""

from __future__ import annotations


class Gspn2Error(Exception):
    """Base of every error this package raises on purpose.

    Args:
        problem: What is wrong, in one sentence.
        got: What was given.
        expected: What would have been accepted.
        hint: How to mend it.
    """

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        got: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.problem = problem
        self.got = got
        self.expected = expected
        self.hint = hint
        parts = [problem]
        for label, value in (("got:", got), ("expected:", expected), ("fix:", hint)):
            if value is not None:
                # Further lines stand under the first one.
                text = str(value).rstrip().replace("\n", f"\n{'':<12}")
                parts.append(f"  {label:<9} {text}")
        super().__init__("\n".join(parts))


class InputError(Gspn2Error):
    """What the user gave cannot be used."""

    exit_code = 2


class UsageError(InputError):
    """Options that do not fit together, or a bad configuration file."""


class ShapeError(InputError, ValueError):
    """A tensor shape, dtype or image size that the operator or the model refuses."""


class DtypeError(InputError, ValueError):
    """An array or buffer has another element type than a runner takes."""


class UnknownModelError(InputError):
    """No model of that name is registered."""


class ModelFactoryError(InputError):
    """A user's ``package.module:factory`` is missing, raised, or did not return a module."""


class CheckpointError(InputError):
    """A checkpoint is missing, truncated, unsafe to load, or does not fit the model."""


class ExportError(InputError):
    """The model cannot be exported as asked."""


class OnnxFileError(InputError):
    """An ONNX file is corrupt, stale, or not one of ours."""


class GoldenFileError(InputError):
    """A golden sample file is corrupt or does not fit the model."""


class ValidationFailedError(Gspn2Error):
    """Outputs differ beyond the tolerance, are not finite, or nothing was compared."""

    exit_code = 1


class PlatformError(Gspn2Error):
    """This machine cannot do what was asked."""

    exit_code = 3


class MissingDependencyError(PlatformError):
    """An optional package is not installed.

    Args:
        package: The distribution that is missing.
        extra: The extra of this package that brings it.
        reason: Why it is needed, or what the import said.
    """

    def __init__(self, package: str, extra: str, reason: str | None = None) -> None:
        super().__init__(
            f"{package} is not available" + (f": {reason}" if reason else ""),
            hint=f"pip install 'gspn2-deploy[{extra}]'",
        )


class KernelLibraryError(PlatformError):
    """The CUDA kernel library is absent, of another ABI version, or refused a call."""


class OutputError(PlatformError):
    """The output place is not writable or full. Nothing was left half written."""


class BuildError(PlatformError):
    """TensorRT could not parse the network or build the engine."""
