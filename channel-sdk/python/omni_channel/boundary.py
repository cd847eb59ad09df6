"""The boundary of a WASM component: one function in, one out, which carry frames."""

from __future__ import annotations

import encodings.ascii
import encodings.cp1252
import encodings.latin_1
import encodings.utf_16
import encodings.utf_16_be
import encodings.utf_16_le
import sys
import time
import warnings
from typing import Any

from .channel import Channel
from .context import Shared
from .driver import Driver, FrameError


def export(channel_class: type[Channel]) -> type:
    """The class that `componentize-py` looks for: `Channel = export(MyChannel)`, at the end of `app.py`."""
    from componentize_py_types import Err
    from wit_world.imports import host

    class Exported:
        """One instance of the channel: a component is no more than one."""

        def __init__(self) -> None:
            self._driver = Driver(channel_class, host.deliver)
            if in_component:
                _tell_the_time(self._driver)

        def deliver(self, frame: bytes) -> None:
            if in_component and late not in sys.meta_path:
                sys.meta_path[:] = [late]
            try:
                self._driver.deliver(frame)
            except FrameError as error:
                raise Err(str(error)) from None

    in_component = sys.platform == "wasi"
    late = _LateImport()
    if in_component:
        _speak_to_the_log(Shared(host.deliver))
    return Exported


class Printed:
    """Takes what is printed, line by line, to the host's log: a component has no other place for it."""

    def __init__(self, shared: Shared, level: Any):
        self._shared = shared
        self._level = level
        self._line = ""

    def write(self, words: str) -> int:
        *lines, self._line = (self._line + words).split("\n")
        for line in lines:
            if line.strip():
                self._shared.log(self._level, line)
        return len(words)

    def flush(self) -> None:
        pass


class _LateImport:
    """Says what is wrong when something is imported too late: to look for a file would end the instance."""

    def find_spec(self, name: str, *_: object) -> None:
        raise ImportError(f"import {name} at the top of app.py: a component has no files to load it from when it runs")


def _tell_the_time(driver: Driver) -> None:
    """A component has no clock, and ends where it asks one: these tell the host's time. `datetime.now` cannot be helped."""
    time.time = lambda: driver.now / 1_000
    time.time_ns = lambda: driver.now * 1_000_000


def _speak_to_the_log(shared: Shared) -> None:
    sys.stdout = Printed(shared, "info")  # type: ignore[assignment]
    sys.stderr = Printed(shared, "warn")  # type: ignore[assignment]
    # Both would look for the line in its file.
    warnings.showwarning = lambda message, *_, **__: shared.log("warn", str(message))
    sys.unraisablehook = lambda raised: shared.log("warn", f"{raised.err_msg or 'ignored'}: {raised.exc_value!r}")
