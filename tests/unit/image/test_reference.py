"""The grammar of image names: https://github.com/distribution/reference (reference_test.go)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter
from labkit.host.image.reference import Reference, parse

_DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("typed", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3.7", "docker.io/library/alpine:3.7", "alpine:3.7"),
        ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("me/app:1", "docker.io/me/app:1", "me/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest", "ghcr.io/a/b/c:latest"),
        ("UPPER/app", "UPPER/app:latest", "UPPER/app:latest"),
        (f"alpine@{_DIGEST}", f"docker.io/library/alpine@{_DIGEST}", f"alpine@{_DIGEST}"),
        (
            f"alpine:3@{_DIGEST}",
            f"docker.io/library/alpine:3@{_DIGEST}",
            f"alpine:3@{_DIGEST}",
        ),
        ("a--b__c.d", "docker.io/library/a--b__c.d:latest", "a--b__c.d:latest"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_a_name_is_completed_and_shown_in_its_short_form(
    typed: str, canonical: str, familiar: str
) -> None:
    reference = parse(typed)
    assert reference.canonical == canonical
    assert reference.familiar == familiar
    assert parse(reference.canonical).canonical == canonical
    assert parse(reference.familiar).canonical == canonical


@pytest.mark.parametrize(
    "typed",
    [
        "",
        ":tag",
        "-a",
        "a-",
        "a..b",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:-x",
        "a:" + "x" * 129,
        "a b",
        "a@sha256:12",
        "a@",
        "http://a",
        "a___b",
        "a:1:2",
        "é",
        "a\n",
        "ex_ample.com/a:b c",
    ],
)
def test_nonsense_is_an_invalid_reference_format(typed: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid reference format$"):
        parse(typed)


def test_an_upper_case_repository_is_named_in_the_error() -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse("Foo")
    assert str(caught.value) == (
        "invalid reference format: repository name (library/Foo) must be lowercase"
    )
    with pytest.raises(InvalidParameter, match=r"repository name \(me/App\) must be lowercase"):
        parse("me/App:1")


def test_an_image_id_is_no_repository_name() -> None:
    with pytest.raises(InvalidParameter, match="cannot specify 64-byte hexadecimal strings"):
        parse("ab" * 32)


def test_a_name_of_256_characters_is_too_long() -> None:
    with pytest.raises(InvalidParameter, match="must not be more than 255 characters"):
        parse("a" * 250)


@pytest.mark.parametrize(
    ("digest", "sentence"),
    [
        ("sha256:" + "a" * 63, "invalid checksum digest length"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
    ],
)
def test_a_digest_must_be_one(digest: str, sentence: str) -> None:
    with pytest.raises(InvalidParameter, match=sentence):
        parse(f"alpine@{digest}")


_word = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}", fullmatch=True)
_tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(
    domain=st.sampled_from(["docker.io", "localhost:5000", "ghcr.io", "10.0.0.1"]),
    path=st.lists(_word, min_size=2, max_size=4).map("/".join),
    tag=_tag,
    digest=st.sampled_from(["", _DIGEST]),
)
def test_what_is_printed_parses_back_to_the_same(
    domain: str, path: str, tag: str, digest: str
) -> None:
    reference = Reference(domain, path, tag, digest)
    assert parse(str(reference)) == reference
    if domain != "docker.io" or "." not in path.partition("/")[0]:
        assert parse(reference.familiar) == reference


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_one_clear_error(text: str) -> None:
    with contextlib.suppress(InvalidParameter):
        reference = parse(text)
        assert parse(reference.canonical).canonical == reference.canonical
