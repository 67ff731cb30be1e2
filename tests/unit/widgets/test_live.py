"""A view polls while, and only while, somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from view_examples import LIFECYCLE, namespaces_example

from labkit.base.errors import Unavailable
from labkit.notebook.widgets import base
from labkit.notebook.widgets.lifecycle import LifecycleView
from labkit.notebook.widgets.namespaces import NamespacesView


class Client:
    def __init__(self) -> None:
        self.asked = 0
        self.data: Any = namespaces_example()

    def json(self, method: str, path: str) -> Any:
        self.asked += 1
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_POLL_S", 0.02)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_looking_nothing_is_asked(fast: None) -> None:
    client = Client()
    view = NamespacesView(client)  # type: ignore[arg-type]
    time.sleep(0.1)
    assert client.asked == 1
    assert not view.is_polling
    view.close()


def test_it_polls_from_the_first_beat_until_it_is_gone(fast: None) -> None:
    client = Client()
    view = NamespacesView(client)  # type: ignore[arg-type]
    view._heard(view, {"type": "beat", "view": "a"}, [])
    view._heard(view, {"type": "beat", "view": "b"}, [])
    until(lambda: client.asked > 3)
    client.data = {**namespaces_example(), "others": 7}
    until(lambda: view.state["others"] == 7)
    view._heard(view, {"type": "gone", "view": "a"}, [])
    assert view.is_polling
    view._heard(view, {"type": "gone", "view": "b"}, [])
    until(lambda: not view.is_polling)
    view.close()


def test_a_silent_browser_ends_the_polling(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_SILENCE_S", 0.1)
    view = LifecycleView(_answering(LIFECYCLE))  # type: ignore[arg-type]
    view._heard(view, {"type": "beat", "view": "a"}, [])
    assert view.is_polling
    until(lambda: not view.is_polling)
    view._heard(view, {"type": "beat", "view": "a"}, [])
    assert view.is_polling
    view.close()
    until(lambda: not view.is_polling)


def test_a_busy_kernel_cannot_hear_and_does_not_count_as_silence(
    fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_SILENCE_S", 0.05)
    monkeypatch.setattr(base._kernel, "_busy", True)
    view = LifecycleView(_answering(LIFECYCLE))  # type: ignore[arg-type]
    view._heard(view, {"type": "beat", "view": "a"}, [])
    time.sleep(0.3)
    assert view.is_polling
    base._kernel._ended()
    until(lambda: not view.is_polling)
    view.close()


def test_a_daemon_that_has_gone_is_said_in_the_picture() -> None:
    client = Client()
    view = NamespacesView(client)  # type: ignore[arg-type]
    client.data = Unavailable("the daemon does not answer")
    view.refresh()
    assert view.state["error"] == "the daemon does not answer"
    assert view.state["groups"]
    assert "Not up to date: the daemon does not answer" in view.static()[1]
    client.data = namespaces_example()
    view.refresh()
    assert view.state["error"] == ""
    view.close()


def test_the_bundle_holds_widget_drawing_and_text() -> None:
    view = NamespacesView(Client())  # type: ignore[arg-type]
    data, _ = view._repr_mimebundle_()
    assert set(data) >= {"application/vnd.jupyter.widget-view+json", "image/svg+xml", "text/plain"}
    assert data["text/plain"].startswith("Namespaces on host default")
    view.close()


def _answering(value: Any) -> Client:
    client = Client()
    client.data = value
    return client
