"""One target under coverage guidance: `python -m tests.fuzz.one TARGET [libFuzzer's arguments]`. Needs `atheris`."""

import shlex
import sys

import atheris

with atheris.instrument_imports(include=["oe"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    # A merge starts itself again for each piece of its work, with what stands here, by a shell.
    itself = f"{shlex.quote(sys.executable)} -m tests.fuzz.one {name}"
    atheris.Setup([itself, *rest], TARGETS[name])
    atheris.Fuzz()
