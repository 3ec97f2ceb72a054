"""The documentation site builds without a warning and without network, and shows the settings of the YAML."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


@pytest.mark.slow
def test_every_commented_setting_of_inference_is_on_the_page(site):
    page = (site / "reference" / "settings.html").read_text("utf-8")
    text = (ROOT / "configs" / "inference.yaml").read_text("utf-8")
    keys = {key for key in yaml.safe_load(text) if re.search(rf"^{key}:.* # ", text, re.MULTILINE)}
    assert len(keys) > 25
    assert [key for key in sorted(keys) if f">{key}<" not in page] == []


@pytest.mark.slow
def test_pages_ask_nothing_of_other_hosts(site):
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]+"')
    pages = {page.name: page.read_text("utf-8") for page in site.rglob("*.html")}
    assert len(pages) > 15
    assert {name: loaded.findall(text) for name, text in pages.items() if loaded.search(text)} == {}


@pytest.mark.slow
def test_a_file_of_the_repository_is_shown_with_links_to_pages(site):
    page = (site / "index.html").read_text("utf-8")
    assert 'href="developers/contributing.html"' in page
    assert 'src="_images/pelvis.png"' in page
    assert "shows:" not in page


@pytest.mark.slow
def test_the_notebook_was_run_and_its_pictures_are_on_the_page(site):
    page = (site / "tutorial" / "notebook.html").read_text("utf-8")
    pictures = re.findall(r'src="([^"]+\.png)"', page)
    assert len(pictures) == 2
    assert all((site / "tutorial" / picture).stat().st_size > 10_000 for picture in pictures)
    errors = {
        name: float(error) for name, error in re.findall(r"(GLADE|slices alone): root mean square error ([\d.]+)", page)
    }
    assert errors["GLADE"] < 0.9 * errors["slices alone"]
    assert "Traceback" not in page


def test_the_notebook_is_committed_without_results():
    cells = json.loads((ROOT / "docs/tutorial/notebook.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert [cell["source"] for cell in code if cell["outputs"] or cell["execution_count"]] == []
