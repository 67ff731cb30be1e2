"""Checks look for a file in every layer of a saved image, seen or not."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

from labkit.notebook.grading.saved import files_in_layers, layers_holding


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_a_deleted_file_is_found_in_the_layer_that_still_holds_it() -> None:
    saved = _tar(
        {
            "low": gzip.compress(_tar({"app/token": b"secret", "app/word": b"1"})),
            "high": _tar({"./app/.wh.token": b"", "app/word": b"2"}),
            "manifest.json": json.dumps([{"Layers": ["low", "high"]}]).encode(),
        }
    )
    assert files_in_layers(saved, "/app/token") == [(1, b"secret")]
    assert files_in_layers(saved, "app/word") == [(1, b"1"), (2, b"2")]
    assert files_in_layers(saved, "/app") == []
    assert layers_holding(saved, b"ecre") == [1]
    assert layers_holding(saved, b"token") == [1, 2]
    assert layers_holding(saved, b"nowhere") == []
