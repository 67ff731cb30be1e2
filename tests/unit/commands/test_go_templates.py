"""Templates: what they evaluate to, and that nothing but Go's own errors comes out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.notebook.commands.goprintf import sprintf
from labkit.notebook.commands.gotemplate import (
    GoMap,
    TemplateError,
    TemplateSyntaxError,
    go_json,
    render,
)

DATA = {
    "Name": "/web",
    "Pid": 42,
    "On": True,
    "Labels": GoMap(a="b"),
    "List": ["x", "y", "z"],
    "Deep": {"Er": {"Here": 1}},
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}-{{ .Pid }}", "/web-42"),
        ("a {{- 1 -}} b", "a1b"),
        ("{{/* gone */}}x", "x"),
        ("{{range .List}}<{{.}}>{{end}}", "<x><y><z>"),
        ("{{range $i, $v := .List}}{{$i}}{{$v}}{{end}}", "0x1y2z"),
        ("{{range .List}}{{if eq . `y`}}{{continue}}{{end}}{{.}}{{end}}", "xz"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", "a=b"),
        ("{{range .Nothing}}x{{else}}empty{{end}}", "empty"),
        ("{{with .Deep.Er}}{{.Here}}{{$.Name}}{{end}}", "1/web"),
        ("{{with .Nothing}}{{else with .Name}}{{.}}{{end}}", "/web"),
        ("{{if .Nothing}}a{{else if .On}}b{{else}}c{{end}}", "b"),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{.Labels.nope}} {{index .Labels `nope`}}|", "<no value> |"),
        ("{{index .List 1}} {{(index .List 2)}} {{len .List}}", "y z 3"),
        ("{{.List}} {{.Labels}}", "[x y z] map[a:b]"),
        ('{{printf "%05d|%-4s|%q" .Pid "ab" .Name}}', '00042|ab  |"/web"'),
        ('{{.Name | printf "%s!" | upper}}', "/WEB!"),
        ("{{and 1 0}} {{or 0 `x`}} {{not .On}}", "0 x false"),
        ("{{lt 1 2}} {{ge 2 2}} {{ne `a` `b`}} {{eq 3 1 2 3}}", "true true true true"),
        ("{{json .List}} {{join .List `,`}} {{split `a:b` `:`}}", '["x","y","z"] x,y,z [a b]'),
        ('{{define "x"}}<{{.}}>{{end}}{{range .List}}{{template "x" .}}{{end}}', "<x><y><z>"),
        ('{{template "later"}}{{define "later"}}{{.}}{{$}}{{end}}', "<no value><no value>"),
        ('{{block "b" .Deep.Er}}{{.Here}}{{end}}{{template "b" $.Deep.Er}}', "11"),
        ('{{define "x"}} {{end}}{{define "x"}}second{{end}}{{template "x"}}', "second"),
        ("{{slice .Name 1 3}} {{html `<a>`}} {{urlquery `a b`}}", "we &lt;a&gt; a+b"),
    ],
)
def test_a_template_says_what_go_says(template: str, text: str) -> None:
    assert render(template, DATA) == text


def test_missing_fields_are_errors_with_their_place() -> None:
    with pytest.raises(TemplateError) as caught:
        render("ab\n  {{.Deep.Nope}}", DATA)
    assert str(caught.value) == (
        'template: :2:9: executing "" at <.Deep.Nope>: map has no entry for key "Nope"'
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ('{{template "no"}}', 'executing "" at <{{template "no"}}>: template "no" not defined'),
        ('{{define "x"}}{{.No}}{{end}}{{template "x" .}}', 'executing "x" at <.No>: map has no'),
        (
            '{{define "x"}}{{template "x"}}{{end}}{{template "x"}}',
            "exceeded maximum template depth",
        ),
        ('{{define "x"}}1{{end}}{{define "x"}}2{{end}}', 'multiple definition of template "x"'),
        ('{{if .On}}{{define "x"}}1{{end}}{{end}}', "unexpected <define> in command"),
        ('{{$v := 1}}{{define "x"}}{{$v}}{{end}}', 'undefined variable "$v"'),
        (
            '{{range .List}}{{template "x"}}{{end}}{{define "x"}}{{break}}{{end}}',
            "outside {{range}}",
        ),
        ("{{template .Name}}", 'unexpected ".Name" in template clause'),
    ],
)
def test_a_named_template_fails_as_in_go(template: str, message: str) -> None:
    with pytest.raises((TemplateError, TemplateSyntaxError)) as caught:
        render(template, DATA)
    assert message in str(caught.value)


def test_a_struct_names_its_type() -> None:
    with pytest.raises(TemplateError, match=r"can't evaluate field Nope in type \*x\.Y"):
        render("{{.Nope}}", DATA, type_name="*x.Y")


@settings(deadline=None)  # nothing here is about time
@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert render(text, {}) == text


_PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{-", "-}}", ".Name", ".List", ".Deep.Er", ".", "$", "$x", ":=", "=", "|"),
        *("(", ")", ",", "if", "else", "end", "range", "with", "index", "len", "eq", "and", "or"),
        *("not", "printf", "json", '"%d"', "`x`", "1", "2.5", "true", "nil", "break", "'", '"'),
        *("`", "/*", "*/", "@", "}", "-"),
    ]
)


@settings(deadline=None)  # nothing here is about time
@given(st.lists(_PIECES, max_size=12).map(" ".join))
def test_nonsense_ends_in_gos_errors_only(template: str) -> None:
    try:
        render(template, DATA)
    except (TemplateSyntaxError, TemplateError) as error:
        message = str(error)
    else:
        message = "template: :"
    assert message.startswith("template: :")


@settings(deadline=None)  # nothing here is about time
@given(st.text(max_size=20), st.lists(st.integers() | st.text(max_size=5) | st.booleans()))
def test_printf_takes_anything(template: str, values: list[object]) -> None:
    assert isinstance(sprintf(template, values), str)


@settings(deadline=None)  # nothing here is about time
@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_json_is_what_json_reads(value: object) -> None:
    import json

    assert json.loads(go_json(value)) == value
