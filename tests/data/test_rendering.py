"""What a template may do, and what it may not; its surroundings are transformers'."""

import datetime

import pytest

from rlhf_jax.data.rendering import Rendering
from rlhf_jax.errors import InputError

SAID = [{"role": "user", "content": "héllo <b> & you"}]


def rendered(template, messages=SAID, **inputs):
    return Rendering(template, **inputs).texts(messages, [(len(messages), True)])[0]


def theirs(template, **inputs):
    from transformers.utils.chat_template_utils import render_jinja_template

    found, _ = render_jinja_template([SAID], chat_template=template, **inputs)
    return found[0]


SURROUNDINGS = [
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2, ensure_ascii=True, sort_keys=True) }}",
    "{{ messages | tojson(separators=(',', ':')) }}",
    "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}!",
    "{%- for m in messages %}\n  {% if 1 %}\n{{ m.role }}\n  {% endif %}{% endfor %}",
    "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}",
    "{{ dict(a=1) | tojson }} {{ tools is none }} {{ documents is none }}",
    "{{ add_generation_prompt }} {{ unknown is defined }} [{{ unknown }}]",
    "{{ messages[0].content | upper | replace('L', 'l') | trim }}",
]


@pytest.mark.parametrize("template", SURROUNDINGS)
def test_a_template_writes_what_it_writes_in_transformers(template):
    assert rendered(template) == theirs(template, add_generation_prompt=True)


def test_tools_documents_and_settings_are_variables():
    template = (
        "{{ tools[0].name }} {{ documents[0].title }} {{ bos_token }} {{ think }}"
    )
    inputs = {"tools": [{"name": "f"}], "documents": [{"title": "t"}]}
    variables = {"bos_token": "<s>", "think": False}
    expected = theirs(template, **inputs, **variables)
    assert rendered(template, **inputs, variables=variables) == expected


def test_keys_without_a_value_are_left_out_and_reasoning_has_every_name():
    message = {"role": "assistant", "content": "x", "tool_calls": None, "thinking": "y"}
    template = (
        "{{ messages[0].tool_calls is defined }} {{ messages[0].reasoning_content }}"
    )
    assert rendered(template, [message]) == "False y"


def test_the_clock_can_be_stopped():
    now = datetime.datetime(2020, 5, 17)
    assert rendered("{{ strftime_now('%d %b %Y') }}", now=now) == "17 May 2020"


def test_marks_stand_around_what_is_generated():
    template = "a{% generation %}b{% endgeneration %}c"
    assert Rendering(template).texts(SAID, [(1, False)], ("<", ">")) == ["a<b>c"]


REFUSED = {
    "{% for %}": "line 1: Expected an expression",
    "{{ ''.__class__.__mro__ }}": "access to attribute '__class__'",
    "{{ messages.append(1) }}": "append",
    "{{ raise_exception('roles\nmust alternate') }}": "roles must alternate",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ none.x.y }}": "has no attribute",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nests too deep",
    "{{ 'a' * 3000000000 }}": "over 2 GiB of memory",
    "{{ 'x' | center(10 ** 11) }}": "over 2 GiB of memory",
    "{% for i in range(99) %}{{ 'a' * 1000000 }}{% endfor %}": "more than 67108864",
    "{% set n = namespace(_x=1) %}": "refused",
    "{% include '/etc/passwd' %}": "no loader",
}


@pytest.mark.parametrize("template", REFUSED)
def test_what_a_template_must_not_do_is_one_line(template):
    with pytest.raises(InputError, match=REFUSED[template]) as caught:
        rendered(template)
    assert str(caught.value).startswith("chat template: ")
    assert "\n" not in str(caught.value)


def test_a_template_that_loops_for_ever_ends_and_the_next_one_is_rendered():
    forever = (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    )
    with pytest.raises(InputError, match="more time or memory than it is given"):
        rendered(forever)
    assert rendered("{{ messages[0].role }}") == "user"


def test_messages_that_are_no_json_are_refused():
    with pytest.raises(InputError, match="expected plain JSON"):
        rendered("x", [{"role": "user", "content": object()}])
