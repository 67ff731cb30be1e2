"""Every command line of the comparison, as a test where Docker Engine is installed."""

from __future__ import annotations

import pytest

from tests.differential.__main__ import run
from tests.differential.engines import missing


@pytest.mark.slow
def test_every_difference_from_docker_engine_has_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = missing()
    if why:
        pytest.skip(why)
    assert run("", verbose=False) == 0, capsys.readouterr().out
