"""daemon.json: what is honoured, and the sentence for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.engine.hostconfig import LogConfig
from labkit.host.engine.settings import AddressPool, Settings, read_settings, with_log_defaults


def written(folder: Path, content: Any) -> Path:
    file = folder / "daemon.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_no_file_means_dockers_defaults(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "daemon.json") == Settings()


def test_what_the_file_says_is_what_counts(tmp_path: Path) -> None:
    found = read_settings(written(tmp_path, {
        "log-driver": "local", "log-opts": {"max-size": "2m"}, "labels": ["a=b"],
        "default-address-pools": [{"base": "10.0.0.0/8", "size": 16}],
    }))  # fmt: skip
    assert found.log == LogConfig("local", {"max-size": "2m"})
    assert found.pools == (AddressPool("10.0.0.0/8", 16),)
    assert found.labels == ("a=b",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"frob": 1}, "the following directives don't match any configuration option: frob"),
        ("{", "Expecting property name"),
        ([], "it must hold a JSON object"),
        ({"log-driver": "gelf"}, "no log driver named 'gelf' is registered"),
        ({"log-opts": {"frob": "1"}}, "unknown log opt 'frob' for json-file log driver"),
        ({"log-opts": {"max-size": 1}}, "log-opts must be an object of strings"),
        ({"labels": ["x"]}, "bad attribute format: x"),
        ({"labels": "x"}, "labels must be a list of strings"),
        ({"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]}, "does not fit"),
        ({"default-address-pools": [{"base": "x"}]}, "invalid default address pool"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(InvalidParameter, match="unable to configure the Docker daemon") as caught:
        read_settings(written(tmp_path, content))
    assert message in caught.value.message
    assert "daemon.json" in caught.value.message


def test_options_of_the_daemon_go_with_its_driver_only() -> None:
    settings = Settings(log=LogConfig("json-file", {"max-size": "1m", "max-file": "2"}))
    assert with_log_defaults(settings, LogConfig("", None)) == settings.log
    own = with_log_defaults(settings, LogConfig("json-file", {"max-size": "9m"}))
    assert own.config == {"max-size": "9m", "max-file": "2"}
    assert with_log_defaults(settings, LogConfig("none", None)) == LogConfig("none", {})
