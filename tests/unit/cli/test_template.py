"""Go templates: what people write after --format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli.template import ParseError, Template, TemplateError

DOCUMENT: dict[str, object] = {
    "Id": "sha256:abcdef",
    "State": {"Status": "running", "Running": True, "Pid": 42, "ExitCode": 0},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a": "1"}, "Cmd": None},
    "HostConfig": {"NanoCpus": 0, "Ratio": 0.5},
    "Html": "<a>&",
    "Empty": [],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{.Id}}", "sha256:abcdef"),
        ("{{ .State.Status }}", "running"),
        ("{{.State.Pid}} {{.State.Running}} {{.Config.Cmd}}", "42 true <nil>"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:1 b:2]"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .Html}}", '"<a>&"'),
        ("{{range .Config.Env}}{{.}};{{end}}", "A=1;B=2;"),
        ("{{range $i, $v := .Config.Env}}{{$i}}={{$v}} {{end}}", "0=A=1 1=B=2 "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Empty}}a{{else if .State.Pid}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Config.Cmd}}x{{else}}y{{end}}", "y"),
        ("{{index .Config.Env 1}}", "B=2"),
        ('{{index .Config.Labels "a"}}', "1"),
        ('{{index .Config.Labels "zz"}}', ""),
        ("{{len .Config.Env}}", "2"),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{split .Id ":"}}', "[sha256 abcdef]"),
        ('{{(index (split .Id ":") 1)}}', "abcdef"),
        (
            "{{upper .State.Status}} {{lower .Id}} {{title .State.Status}}",
            "RUNNING sha256:abcdef Running",
        ),
        ("{{truncate .Id 6}}|{{pad .State.Status 1 2}}|", "sha256| running  |"),
        (
            '{{printf "%s-%05d-%q-%v-%t" .State.Status .State.Pid "x" .Config.Env true}}',
            'running-00042-"x"-[A=1 B=2]-true',
        ),
        ('{{printf "%.3s|%-5s|%5s" "abcdef" "ab" "ab"}}', "abc|ab   |   ab"),
        ('{{"x" | printf "%s-%s" "y"}}', "y-x"),
        (
            "{{eq .State.Pid 42}} {{ne .State.Pid 42}} {{lt 1 2}} {{ge 1 2}}",
            "true false true false",
        ),
        ('{{eq .State.Status "a" "running"}}', "true"),
        ("{{and .State.Running .State.Pid}} {{or .Empty 7}} {{not .Empty}}", "42 7 true"),
        ("{{- .Id -}}  x", "sha256:abcdefx"),
        ("a {{- /* comment */ -}} b", "ab"),
        ("{{/* comment */}}x", "x"),
        ("{{$x := .State.Pid}}{{$x}}", "42"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{`raw\\n`}}", "raw\\n"),
        ('{{"a\\tb\\u00e9"}}', "a\tb\u00e9"),
        ('{{range .Config.Env}}{{if eq . "B=2"}}{{break}}{{end}}{{.}}{{end}}', "A=1"),
        ('{{range .Config.Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}}{{end}}', "B=2"),
        ("{{.HostConfig.NanoCPUs}}", "0"),
        ("{{.State.Health}}", "<nil>"),
        ("{{if .State.Health}}x{{else}}no health{{end}}", "no health"),
        ("{{.HostConfig.Ratio}}", "0.5"),
        ("{{slice .Id 0 6}}", "sha256"),
        ("{{html .Html}}", "&lt;a&gt;&amp;"),
    ],
)
def test_templates(text: str, expected: str) -> None:
    assert Template(text).execute(DOCUMENT) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{.Id", "template: :1: unclosed action"),
        ("{{", "template: :1: unclosed action"),
        ("a\n{{.Id", "template: :2: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{if .Id}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ('{{"x}}', "template: :1: unterminated quoted string"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", 'template: :1: undefined variable "$x"'),
        ("{{(.Id}}", "template: :1: unclosed left paren"),
    ],
)
def test_what_does_not_parse(text: str, sentence: str) -> None:
    with pytest.raises(ParseError) as caught:
        Template(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        (
            "x {{.State.Foo}}",
            'template: :1:10: executing "" at <.State.Foo>: map has no entry for key "Foo"',
        ),
        (
            "{{index .Config.Env 7}}",
            'template: :1:2: executing "" at <index .Config.Env 7>: error calling index: index out of range: 7',
        ),
    ],
)
def test_what_does_not_fit(text: str, sentence: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text).execute(DOCUMENT)
    assert str(caught.value) == sentence


@given(st.text(alphabet="{}.-$|()\"`'= \\/*azIdrangeifxwth\n", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        Template("{{" + text).execute(DOCUMENT)
        Template(text).execute(DOCUMENT)
    except TemplateError:
        pass
