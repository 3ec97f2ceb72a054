"""Who the patient is: nowhere in what the shipped workflow writes or says, unless `keep_names` asks for it."""

import logging
import sys

import monai.bundle
import numpy as np
import pydicom
import pytest

from scripts.dicom.synthetic_series import write_series
from tests.workflows.tiny_inference import write_config

PERSON = {"PatientName": "Mustermann^Erika", "PatientID": "K-7781234", "PatientBirthDate": "19620413"}
WORDS = ("mustermann", "erika", "7781234", "19620413")


@pytest.fixture
def infer(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    config = write_config(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    volume = np.random.default_rng(0).integers(0, 1000, (24, 22, 6))
    affine = np.diag([-2.0, -2.0, 6.0, 1.0])
    write_series(tmp_path / "scans" / "a", volume, affine, series_description="t2 Mustermann", header=PERSON)
    few = PERSON | {"SeriesDescription": "ERIKA 7781234"}
    write_series(tmp_path / "scans" / "b", volume[:, :, :3], affine, series_number=2, header=few)

    def run(**settings):
        out = tmp_path / "out"
        places = {"dataset_dir": str(tmp_path / "scans"), "output_dir": str(out)}
        with pytest.raises(SystemExit):  # the series of three slices is refused
            monai.bundle.run("inference", config_file=config, logging_file=False, write="all", **places, **settings)
        said = [str(path.relative_to(out)) for path in out.rglob("*")]
        said += [path.read_text() for path in out.rglob("*") if path.suffix in (".json", ".html")]
        return "\n".join([*said, caplog.text]).lower(), sorted(out.rglob("*.dcm"))

    return run


def test_by_default_nothing_names_the_patient_but_the_derived_header(infer):
    text, derived = infer()
    assert "1 done, 0 already done, 1 refused" in text
    assert "_report.html" in text
    assert [word for word in WORDS if word in text] == []
    assert pydicom.dcmread(derived[0]).PatientName == PERSON["PatientName"]  # the archive files it under the patient


def test_names_are_kept_where_that_is_asked_for(infer):
    text, derived = infer(keep_names="true")
    assert "mustermann_erika_001_t2" in text
    assert "Mustermann_Erika_001_t2" in derived[0].parts[-3]
