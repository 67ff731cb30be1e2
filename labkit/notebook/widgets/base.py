"""What all views share: state for one ES module, a static twin, polling while shown."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.base.errors import LabkitError

__all__ = ["LiveView", "View", "module_file"]

_POLL_S = 0.7
_SILENCE_S = 25.0


def module_file(name: str) -> Path:
    """The ES module that draws a view."""
    return Path(__file__).with_name(name)


class View(anywidget.AnyWidget):
    """A picture. `state` is everything the browser needs to draw it."""

    state = traitlets.Dict().tag(sync=True)

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        raise AssertionError(f"{type(self).__name__} draws nothing")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and beside it what is shown where no widget can be."""
        svg, text = self.static()
        found = super()._repr_mimebundle_(**kwargs)
        data, metadata = found if isinstance(found, tuple) else (found or {}, {})
        return {**data, "image/svg+xml": svg, "text/plain": text}, metadata


class _Kernel:
    """Whether a cell runs. While it does the kernel hears no browser, so silence means nothing."""

    def __init__(self) -> None:
        self._busy = False
        self._idle_since = time.monotonic()
        self._shell: Any = None

    def watch(self) -> None:
        """Follow the shell this code runs in; a view is made by a cell, so one runs now."""
        from IPython import get_ipython

        shell = get_ipython()
        if shell is None or shell is self._shell:
            return
        self._shell = shell
        self._busy = True
        shell.events.register("pre_execute", self._started)
        shell.events.register("post_execute", self._ended)

    def _started(self) -> None:
        self._busy = True

    def _ended(self) -> None:
        self._busy, self._idle_since = False, time.monotonic()

    def silent_for_s(self, since: float) -> float:
        """Seconds of silence that mean something, counted from `since`."""
        return 0.0 if self._busy else time.monotonic() - max(since, self._idle_since)


_kernel = _Kernel()


class LiveView(View):
    """A picture of live state. A thread asks the daemon while, and only while, somebody looks.

    Each drawing in the browser sends a `beat` at once and every ten seconds that it is visible,
    and `gone` when it ends. A browser that has vanished without a word is noticed by its silence.
    """

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], **kwargs: Any) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._heard_at: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        super().__init__(state=dict(fetch()), **kwargs)
        _kernel.watch()
        self.on_msg(self._heard)

    def refresh(self) -> None:
        """Ask the daemon once and draw what it says."""
        try:
            fresh = dict(self._fetch())
        except (LabkitError, OSError) as error:
            fresh = {**self.state, "error": str(error) or type(error).__name__}
        if fresh != self.state:
            self.state = fresh

    @property
    def is_polling(self) -> bool:
        """Whether the thread runs now."""
        return self._thread is not None and self._thread.is_alive()

    def close(self) -> None:
        """Remove the view and end its thread."""
        self._stopped.set()
        super().close()

    def _heard(self, _: object, content: object, __: object) -> None:
        if not isinstance(content, dict):
            return
        place = str(content.get("view", ""))
        if content.get("type") == "beat":
            with self._lock:
                self._heard_at[place] = time.monotonic()
                self._start_polling()
        elif content.get("type") == "gone":
            with self._lock:
                self._heard_at.pop(place, None)

    def _start_polling(self) -> None:
        if self.is_polling or self._stopped.is_set():
            return
        # The copied context keeps the thread's messages attributed to this view's cell.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._poll,), name="labkit-view", daemon=True
        )
        self._thread.start()

    def _somebody_looks(self) -> bool:
        self._heard_at = {
            place: at
            for place, at in self._heard_at.items()
            if _kernel.silent_for_s(at) < _SILENCE_S
        }
        return bool(self._heard_at)

    def _poll(self) -> None:
        while not self._stopped.wait(_POLL_S):
            with self._lock:
                if not self._somebody_looks():
                    self._thread = None
                    return
            self.refresh()
