"""The live panel of a command in the background: its output as it comes, and a stop button."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import traitlets

from labkit.notebook.widgets.base import View, module_file
from labkit.notebook.widgets.livepanel_picture import describe, draw, panel_state

if TYPE_CHECKING:
    from labkit.notebook.magics.jobs import Job

__all__ = ["LivePanel"]


class LivePanel(View):
    """Follows one job. Pressing stop in the browser interrupts it."""

    _esm = module_file("livepanel.js")
    job_number = traitlets.Int().tag(sync=True)

    def __init__(self, job: Job, **kwargs: Any) -> None:
        self._job = job
        super().__init__(state=panel_state(job), job_number=job.number, **kwargs)
        job.on_change(self._follow)
        self.on_msg(self._heard)

    def _follow(self, job: Job) -> None:
        self.state = panel_state(job)

    def _heard(self, _: object, content: object, __: object) -> None:
        if isinstance(content, dict) and content.get("type") == "stop":
            # Stopping may take seconds; the kernel must stay free for the next message.
            threading.Thread(target=self._job.stop, daemon=True).start()

    def static(self) -> tuple[str, str]:
        """SVG and text of the present state."""
        return draw(self.state), describe(self.state)
