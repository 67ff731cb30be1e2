"""The picture of a push or a pull says of each blob what the engine said."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from labkit.base.errors import InvalidParameter
from labkit.notebook.widgets.transfer import blobs_of, draw

DIFF_IDS = [f"sha256:{letter * 64}" for letter in "abc"]
MANIFEST = {"layers": [{"digest": f"sha256:{n * 64}", "size": 1000 * int(n)} for n in "123"]}


def test_a_push_names_layers_by_diff_id() -> None:
    said = (
        "The push refers to repository [localhost:5000/x]\n"
        f"{'a' * 12}: Preparing\n{'b' * 12}: Preparing\n{'c' * 12}: Preparing\n"
        f"{'a' * 12}: Layer already exists\n{'b' * 12}: Mounted from y\n{'c' * 12}: Pushed\n"
        "1: digest: sha256:… size: 3\n"
    )
    assert [(blob.size, blob.fate) for blob in blobs_of(said, MANIFEST, DIFF_IDS)] == [
        (1000, "was there already"),
        (2000, "taken from another repository"),
        (3000, "travelled"),
    ]


def test_a_pull_names_layers_by_digest_and_the_text_says_what_the_picture_says() -> None:
    said = f"1: Pulling from x\n{'1' * 12}: Already exists\n{'2' * 12}: Pull complete\n"
    blobs = blobs_of(said, MANIFEST, DIFF_IDS)
    assert [blob.fate for blob in blobs] == ["was there already", "travelled", "was there already"]
    svg, text = draw("localhost:5000/<x>:1", blobs)
    words = " ".join(ElementTree.fromstring(svg).itertext())
    for blob in blobs:
        assert blob.digest[7:19] in words
        assert blob.digest[7:19] in text
        assert blob.fate in words
    assert "2kB of 6kB travelled" in text


def test_other_words_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="push or a pull"):
        blobs_of("hello", MANIFEST, DIFF_IDS)
