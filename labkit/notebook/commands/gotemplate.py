"""Go's text/template, as far as Docker's `--format` uses it.

`render` evaluates a template on plain data: dictionaries are Go maps or structs, callables are
methods. Errors carry Go's own words, because Docker's client shows them:
`template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.notebook.commands.gotemplate_eval import Evaluator, TemplateError
from labkit.notebook.commands.gotemplate_functions import (
    GoMap,
    GoNil,
    GoNilMap,
    GoStruct,
    go_format,
    go_json,
)
from labkit.notebook.commands.gotemplate_parse import Template, TemplateSyntaxError, parse

__all__ = [
    "GoMap",
    "GoNil",
    "GoNilMap",
    "GoStruct",
    "Template",
    "TemplateError",
    "TemplateSyntaxError",
    "go_format",
    "go_json",
    "parse",
    "render",
]


def render(
    template: str | Template,
    data: Any,
    *,
    type_name: str = "",
    functions: Mapping[str, Any] | None = None,
) -> str:
    """Evaluate `template` on `data`.

    `type_name` is what error messages call the type of `data` where it has no such field; ""
    makes it a map whose missing keys are errors. `functions` replace those of the same name.
    Raises TemplateSyntaxError or TemplateError.
    """
    parsed = template if isinstance(template, Template) else parse(template)
    return Evaluator(parsed, type_name=type_name, functions=functions).run(data)
