"""Prompts with places for values: plain names without a package, the rest by Jinja in its sandbox."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from looopy import ConfigurationError, MissingExtra
from looopy.llm import Template


class Invoice(BaseModel):
    number: str
    items: list[str]


@dataclass
class Person:
    name: str

    def fire(self) -> str:
        raise AssertionError("a template called a method")


@pytest.mark.parametrize(
    ("text", "values", "rendered"),
    [
        ("Hi {{ name }}, {{name}}!\n", {"name": "Ann"}, "Hi Ann, Ann!\n"),
        ("no places, {a} and }}", {}, "no places, {a} and }}"),
        ("{{ n }} {{ yes }} {{ none_ }} {{ l }}", {"n": 3, "yes": True, "none_": None, "l": ["a", 1]}, '3 true null ["a",1]'),
        ("{{ who }} on {{ day }}", {"who": Person("Ann"), "day": date(2026, 1, 31)}, '{"name":"Ann"} on 2026-01-31'),
        ("{{ a }}{{ b }}", {"a": "{{ b }}", "b": "<{% if %}&"}, "{{ b }}<{% if %}&"),
        ("{{ größe }}", {"größe": "3 m"}, "3 m"),
        ("a\r\nb {{ c }}", {"c": "d\r\ne"}, "a\nb d\r\ne"),
        ("{{ name }}", {"name": "x", "self": "y", "unused": object}, None),
    ],
)  # fmt: skip
def test_names_are_filled_in_without_a_package(text, values, rendered, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    if rendered is None:
        with pytest.raises(ConfigurationError, match="the value of 'unused' has no JSON form"):
            Template(text).render(**values)
    else:
        assert Template(text).render(**values) == rendered


@pytest.mark.parametrize(
    ("text", "values", "rendered"),
    [
        ("{{ name | upper }}", {"name": "Ann"}, "ANN"),
        ("{{ invoice.number }}: {{ invoice.items }}", {"invoice": Invoice(number="A-1", items=["x"])}, 'A-1: ["x"]'),
        ("{{ who.name }}", {"who": Person("Ann")}, "Ann"),
        ("{{ d.keys() | list }}", {"d": {"a": 1}}, '["a"]'),
        ("{% for item in items %}\n  - {{ item }}\n{% endfor %}\nEnd.\n", {"items": ["a", "b"]}, "  - a\n  - b\nEnd.\n"),
        ("{% if more is defined %}{{ more }}{% else %}no more{% endif %}", {}, "no more"),
        ("{{ true }} {{ none }} {{ 'a' if yes else 'b' }}", {"yes": False}, "true null b"),
        ("{# nothing #}{{ a }}", {"a": "<b>"}, "<b>"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", {}, "012"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}", {}, "2"),
        ("{{ a ~ b }}", {"a": "{{ b }}", "b": "{% x %}"}, "{{ b }}{% x %}"),
    ],
)  # fmt: skip
def test_more_than_names_is_jinjas(text, values, rendered):
    assert Template(text).render(**values) == rendered


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.lists(st.integers())
)


@given(
    st.lists(st.sampled_from(["{{ a }}", "{{b}}", "{{ größe }}", "{", "}", " ", "\n", "x", "%", "#", "}}", "'", "<"])).map("".join),
    values, values, values,
)  # fmt: skip
def test_names_mean_the_same_to_both(text, a, b, c):
    from looopy.llm import sandbox

    given = {"a": a, "b": b, "größe": c}
    try:
        names, rendering = sandbox.compiled(text)
    except sandbox.Unreadable:
        with pytest.raises(ConfigurationError):
            Template(text)
        return
    template = Template(text)

    assert (template.names, template.render(**given)) == (names, rendering(given))


def test_it_knows_what_it_can_take():
    assert Template("{{ a }} {{ b }}").names == {"a", "b"}
    assert Template("{% for x in xs %}{{ x.y }}{{ range(z) }}{% endfor %}").names == {"xs", "z"}
    assert (
        Template("{{ a }}", name="one") == Template("{{ a }}", name="one") != Template("{{ b }}", name="one")
    )


@pytest.mark.parametrize(
    ("template", "values", "said", "argument"),
    [
        (Template("Hi {{ name }}", name="greet"), {"nam": "x"}, "the template 'greet': there is no value for 'name'; 'nam' was given: is that it?", "name"),
        (Template("Hi {{ name }}"), {}, "the template 'Hi {{ name }}': there is no value for 'name'; pass render(name=…)", "name"),
        (Template("{{ name | upper }} " + "x" * 40), {}, f"the template '{{{{ name | upper }}}} {'x' * 21}…': there is no value for 'name'; pass render(name=…)", "name"),
        (Template("{{ a.b }}", name="t"), {"a": {"c": 1}}, "the template 't': 'dict object' has no attribute 'b'", "t"),
        (Template("{{ a + 1 }}", name="t"), {"a": "x"}, """the template 't' cannot be rendered: can only concatenate str (not "int") to str""", "t"),
        (Template("{{ 1 // a }}", name="t"), {"a": 0}, "the template 't' cannot be rendered: integer division or modulo by zero", "t"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_the_template_and_the_name(template, values, said, argument):
    with pytest.raises(ConfigurationError) as caught:
        template.render(**values)
    assert (str(caught.value), caught.value.argument) == (said, argument)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a\n{% if %}",
            "the template 'a\\n{% if %}', line 2: Expected an expression, got 'end of statement block'",
        ),
        (
            "{{ a",
            "the template '{{ a', line 1: unexpected end of template, expected 'end of print statement'.",
        ),
        ("{% for x in y %}", "Unexpected end of template."),
        ("{{ x + " + "(" * 5_000 + ")" * 5_000 + " }}", "maximum recursion depth exceeded"),
        ("{% if x %}" * 3_000 + "{% endif %}" * 3_000, "maximum recursion depth exceeded"),
        ("{{ x + " + "9" * 5_000 + " }}", "Exceeds the limit (4300 digits)"),
        (None, "Template: a NoneType is no text"),
        (b"{{ x }}", "Template: a bytes is no text"),
    ],
)
def test_what_is_no_template_is_said_when_it_is_made(text, said):
    with pytest.raises(ConfigurationError) as caught:
        Template(text)
    assert said in str(caught.value)


def test_without_jinja_a_template_that_needs_it_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "looopy.llm.sandbox", raising=False)
    monkeypatch.delattr("looopy.llm.sandbox", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(MissingExtra) as caught:
        Template("{{ a | upper }}")
    assert (
        str(caught.value)
        == "the template '{{ a | upper }}', which holds more than names, needs jinja2: pip install 'looopy[templates]'"
    )


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__ }}",
        "{{ x.__class__.__mro__[1].__subclasses__() }}",
        "{{ x | attr('__class__') }}",
        "{{ x['__class__'] }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ '{a.__class__}'.format_map({'a': x}) }}",
        "{{ ['{0.__class__}'] | map('format', x) | list }}",
        "{{ range.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ joiner }}",
        "{{ self._TemplateReference__context }}",
        "{{ self.__init__.__globals__ }}",
        "{{ [].append.__self__.__class__ }}",
        "{{ (x.upper)['__self__'].__class__ }}",
        "{% set _ = l.append(1) %}",
        "{% set _ = d.update({'a': 1}) %}",
        "{% set _ = d.clear() %}",
        "{{ who.fire() }}",
        "{{ who.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'base' %}",
        "{% for i in range(1000000) %}x{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ (l | groupby('x') | first).grouper.__class__ }}",
    ],
)
def test_a_template_does_not_get_out_of_its_sandbox(attack):
    values = {"x": "text", "l": [{"x": 1}], "d": {"b": 2}, "who": Person("Ann")}

    with pytest.raises(ConfigurationError):
        Template(attack).render(**values)
    assert values == {"x": "text", "l": [{"x": 1}], "d": {"b": 2}, "who": Person("Ann")}


def test_no_object_of_the_program_is_within_a_templates_reach():
    seen = Template("{% for name, value in all.items() %}{{ name }}={{ value }};{% endfor %}").render(
        all={"who": Person("Ann"), "type": Invoice(number="1", items=[]), "day": date(2026, 1, 31)}
    )

    assert seen == 'who={"name":"Ann"};type={"number":"1","items":[]};day=2026-01-31;'
