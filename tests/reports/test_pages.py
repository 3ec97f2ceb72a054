"""What holds for everything that a template writes."""

import pytest
from jinja2 import UndefinedError

from scripts.reports.pages import ENVIRONMENT, Cell, Table, render, without_paths

EVIL = "<i>&</i> in /home/somebody/scan.nii.gz"
SHOWN = "&lt;i&gt;&amp;&lt;/i&gt; in …/scan.nii.gz"


def written(template: str, **content) -> str:
    return ENVIRONMENT.from_string(f'{{% from "macros.html" import cell, definitions, table %}}{template}').render(
        headings=[], **content
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /work/a b/c.nii.gz: gone", "cannot read …/c.nii.gz: gone"),
        ("/home/Jane Doe/scans/k.nii.gz and 3 / 4", "…/k.nii.gz and 3 / 4"),
        (r"C:\Users\Jane Doe\k.nii", "…/k.nii"),
        ("see file:///home/x/y and file:///C:/x/y z/k.nii", "see …/y and …/k.nii"),
        ("--dataset_dir=/mnt/x/scans --n 1/mm", "--dataset_dir=…/scans --n 1/mm"),
        ("'/a/b'", "'…/b'"),
        (r"C:\Users\me\scan.nii and D:/x/y.nii", "…/scan.nii and …/y.nii"),
        ("~/data/knee.nii", "…/knee.nii"),
        ("configs/evaluate.yaml ../shared/data", "configs/evaluate.yaml ../shared/data"),
        ("result / truth, 10 / 4 and 5/4", "result / truth, 10 / 4 and 5/4"),
    ],
)
def test_paths_are_cut_to_their_last_part(text, shown):
    assert without_paths(text) == shown


@pytest.mark.parametrize(
    "template",
    [
        "{{ value }}",
        '<p title="{{ value }}">',
        "{{ [value]|join }}",
        '{{ "" ~ value }}',
        "{{ cell(value) }}",
        "{{ cell(rich) }}",
        "{{ definitions([(value, value)]) }}",
        "{{ table(content) }}",
    ],
)
def test_every_text_is_escaped_and_loses_its_path_wherever_it_stands(template):
    rich = Cell(EVIL, EVIL, bold=True)
    content = Table(EVIL, (EVIL, rich), [(EVIL, rich, EVIL)], {EVIL})
    text = written(template, value=EVIL, rich=rich, content=content)
    assert SHOWN in text
    assert "somebody" not in text
    assert "<i>" not in text


def test_markup_is_escaped_once_and_none_is_nothing():
    table = Table("a < b", ("x", Cell("y", "z")), [("1", "2"), ("3", Cell("4", bold=True))], ["3"], "wide")
    text = written("{{ table(content) }}{{ nothing }}", content=table, nothing=None)
    assert "<caption>a &lt; b</caption>" in text
    assert '<table class="wide">' in text
    assert '<th scope="col">y <small>z</small></th>' in text
    assert '<tr class="marked"><th scope="row">3</th><td><b>4</b></td></tr>' in text
    assert text.endswith("</div>\n")


def test_a_variable_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError):
        render("evaluation.html", title="x")
