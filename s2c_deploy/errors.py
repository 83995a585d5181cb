"""Every error this package raises on purpose.

::

    S2CError                 exit code 1
    ├── InputError           3   an image, an argument or a path from the user is unusable
    ├── BitstreamError       4   a .s2c stream is malformed, damaged, or of another bundle
    ├── BundleError          5   a bundle is malformed, damaged, or of a newer schema
    ├── ExportError          6   weights could not be turned into a bundle
    │   ├── ParityError      7   a written graph does not compute what the model computes
    │   └── ExactnessError   8   an integer layer could exceed the exact range
    ├── EngineError          9   an engine cannot be built, loaded or trusted
    │   ├── StaleEngineError     ... it is of another bundle, graph or library version
    │   ├── ForeignEngineError   ... it is for another GPU or system, or this user did not build it
    │   ├── TruncatedEngineError ... bytes are missing
    │   └── TamperedEngineError  ... bytes or identity are not those that were built
    ├── DependencyError      10  an optional package is missing
    └── OutOfMemoryError     11  memory does not hold a picture, a graph or a file

(1 is also an unforeseen error's code; 2 is the shell's and typer's code for wrong usage.)  A message says what was
expected, what was found, and what to do next.

Others' exceptions become these where they arise.  What may come at each border, and what it becomes:

==================================  ===================================================  ===============================
border                              what others raise                                    becomes
==================================  ===================================================  ===============================
a picture (``pictures``)            OSError, ValueError, MemoryError, whatever Pillow    InputError, OutOfMemoryError
                                    and libvips raise for damaged files
a file to write (``files``)         OSError                                              InputError
a folder's names (``listing``)      OSError                                              InputError, or is left out
a bundle (``manifest``, ``npz``,    OSError, ValueError, RecursionError, MemoryError     InputError where there is none,
``onnx_graph``, ``inside``)                                                              BundleError, OutOfMemoryError
an engine's library (``runtime``)   RuntimeError, ValueError, MemoryError, its own       EngineError, OutOfMemoryError
a built engine (``tensorrt``)         OSError, ValueError, MemoryError                     EngineError, OutOfMemoryError
the C coder (``entropy``)           a status                                             BitstreamError, InputError,
                                                                                         OutOfMemoryError
numpy in the codec (``codec``)      MemoryError                                          OutOfMemoryError
a checkpoint, a training state,     OSError, pickle's, zip's and torch's errors          InputError, ExportError,
a picture cache                                                                          OutOfMemoryError
the command line (``cli``)          anything else                                        one line, exit code 1
==================================  ===================================================  ===============================
"""

from __future__ import annotations


class S2CError(Exception):
    """Base of all errors of this package. ``hint`` is the next step for the reader; it is part of ``str()``."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class InputError(S2CError):
    """An image, an argument or a path from the user is unusable."""

    exit_code = 3


class BitstreamError(S2CError):
    """A .s2c stream is malformed, damaged or belongs to another bundle.

    ``field`` names the part of the stream, ``expected`` and ``found`` what the reader wanted and saw.
    """

    exit_code = 4

    def __init__(self, field: str, *, expected: object, found: object, hint: str | None = None) -> None:
        self.field = field
        self.expected = expected
        self.found = found
        super().__init__(f"bad stream: {field}: expected {expected}, found {found}", hint=hint)


class BundleError(S2CError):
    """A bundle is malformed, damaged or of a newer schema."""

    exit_code = 5


class ExportError(S2CError):
    """Weights could not be turned into a bundle."""

    exit_code = 6


class ParityError(ExportError):
    """A written graph does not compute what the model computes."""

    exit_code = 7


class ExactnessError(ExportError):
    """An integer layer could leave the range in which float32 sums are exact."""

    exit_code = 8


class EngineError(S2CError):
    """An engine cannot be built, loaded or trusted."""

    exit_code = 9


class StaleEngineError(EngineError):
    """An engine of another bundle, another graph or another version of the library."""


class ForeignEngineError(EngineError):
    """An engine for another GPU or system, or one that this user did not build."""


class TruncatedEngineError(EngineError):
    """An engine file that lacks bytes."""


class TamperedEngineError(EngineError):
    """An engine file or a sidecar that is not what was built."""


class DependencyError(S2CError):
    """An optional package is missing; ``extra`` is the extra of this package that installs it."""

    exit_code = 10

    def __init__(self, package: str, *, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed", hint=f"pip install 's2c-deploy[{extra}]'")


class OutOfMemoryError(S2CError):
    """Memory does not suffice; ``what`` says what for, as "compressing 10000x10000 pixels"."""

    exit_code = 11

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = what
        super().__init__(f"not enough memory for {what}", hint=hint)
