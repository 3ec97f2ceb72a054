"""Thirty ways to write a patient's identity into a series: no output, log or temporary file holds any of it."""

import gzip
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scripts.dicom.case_names import case_names
from scripts.dicom.discovery import find_series
from scripts.dicom.synthetic_series import write_series
from tests.workflows.tiny_inference import ROOT, write_config

PERSON = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": "Müller-Lüdenscheidt^Ångström^Katharina^Dr.",
    "PatientID": "K-7781234",
    "OtherPatientIDs": "0815XY",
    "PatientBirthDate": "19620413",
    "AccessionNumber": "AC55102938",
    "PatientAddress": "Tannenallee 17",
    "ReferringPhysicianName": "Sauerbruch^Ferdinand",
    "PatientComments": "Katharina will anrufen",
    "StudyDescription": "Frau Katharina Müller",
}
PHRASINGS = [
    "T2 Müller-Lüdenscheidt",
    "T2 Mueller Luedenscheidt",
    "T2 Muller Ludenscheidt",
    "T2 MUELLERLUEDENSCHEIDT",
    "T2 KatharinaMüller",
    "T2 katharina.mueller",
    "T2_Mueller,Kath.",
    "T2 Mllr-Ldnschdt",
    "T2 Angstroem Katharina",
    "T2 Katharina (geb. Lüdenscheidt)",
    "T2 KML Katha",
    "T2 Fr. Dr. Müller",
    "T2 *13.04.1962",
    "T2 1962-04-13",
    "T2 19620413",
    "T2 13APR62",
    "T2 geb 13/4/62",
    "T2 April1962 ",
    "T2 AC55102938",
    "T2 AC-5510-2938",
    "T2 K-7781234",
    "T2 K7781234",
    "T2 Pat.Nr. 7781234",
    "T2 0815XY",
    "T2 LeeMax",
    "T2 Lee^Max",
    "T2 Sauerbruch",
    "T2 Мюллер Катарина",
    "T2 ミュラー カタリナ",
    "T2 mueller@tannenallee.de 0171-5551234",
]
"""Each of a protocol word and of a name, a birth date, or a number."""
TRACES = re.findall(
    r"\S+",
    """
müller mueller muller mllr lüdenscheid luedenscheid ludenscheid ldnschdt ångstr angstr katha 13.04 19620413 13041962
13apr apr62 april1962 ac551 ac-551 5510-2938 55102938 7781234 0815xy leemax lee_max lee^max sauerbruch ferdinand
tannenallee мюллер катарина ミュラー カタリナ 5551234 anrufen
    """,
)
"""What would betray the person, in lower case."""

RUN = """
import os, runpy, shutil, sys
kept = open(os.environ["KEPT"], "ab", buffering=0)
def keep(event, arguments):
    if event in ("os.remove", "os.rename", "shutil.rmtree", "os.mkdir", "tempfile.mkstemp", "tempfile.mkdtemp") or (
        event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        path = os.fsdecode(arguments[0])
        kept.write(os.fsencode(f"{event} {path}\\n"))
        if event == "os.remove" and os.path.isfile(path) and not path.endswith(".dcm"):
            with open(path, "rb") as file:
                kept.write(file.read())
sys.addaudithook(keep)
sys.argv[0] = "monai"
runpy.run_module("monai.bundle", run_name="__main__")
"""
"""Runs `monai.bundle`; keeps the names of the files that it writes, and the content of those that it removes."""

NUMBER = "123456.78"
"""Replaced by the name, as is 123456789: pydicom does not write a name into a numeric attribute."""
VOLUME = np.random.default_rng(0).integers(0, 1000, (24, 22, 6))
AFFINE = np.diag([-2.0, -2.0, 6.0, 1.0])


def person(number, description, **extra):
    uid = f"1.2.19620413.{number}"  # some systems write dates and numbers into UIDs
    names = {"SeriesDescription": description, "ProtocolName": description, "SeriesInstanceUID": uid}
    return lambda k: PERSON | names | {"SOPInstanceUID": f"{uid}.{k}"} | extra


def write_scans(folder):
    for number, description in enumerate(PHRASINGS, start=1):
        place = folder / f"Müller_Katharina_{number}"
        write_series(place, VOLUME, AFFINE, series_number=number, header=person(number, description))


def write_faults(folder):
    """Write series that are refused or noted, each in another way."""
    place = folder / "Müller_Katharina"
    with pydicom.config.disable_value_validation():
        for number, extra in enumerate(
            (
                {"Modality": "KATHARINA"},
                {"PhotometricInterpretation": "KATHARINA"},
                {"SpecificCharacterSet": "KATHARINA"},
                {"ImageType": ["ORIGINAL", "PRIMARY", "KATHARINA", "KATHARINA_MAP"]},
                {"ComplexImageComponent": "KATHARINA", "RescaleType": "KATHARINA"},
                {"AcquisitionDate": "KATHARINA", "AcquisitionTime": "KATHARINA", "EchoTime": NUMBER},
                {"SeriesInstanceUID": "KATHARINA.1962", "FrameOfReferenceUID": "KATHARINA"},
                {"SequenceName": "KATHARINA", "ScanningSequence": "KATHARINA", "SoftwareVersions": "KATHARINA"},
                {"RescaleSlope": NUMBER},
                {"TimezoneOffsetFromUTC": "KATHARINA", "BodyPartExamined": "KATHARINA", "PatientPosition": "KATHARINA"},
                {"MRAcquisitionType": "KATHARINA", "SliceThickness": NUMBER, "EchoTrainLength": "123456789"},
            ),
            start=50,
        ):
            header = person(number, "T2 Katharina", **extra)
            for file in write_series(place / str(number), VOLUME, AFFINE, series_number=number, header=header):
                data = Path(file).read_bytes()
                Path(file).write_bytes(data.replace(NUMBER.encode(), b"KATHARINA").replace(b"123456789", b"KATHARINA"))
        files = write_series(place / "few", VOLUME, AFFINE, series_number=70, header=person(70, "T2 Katharina"))
        Path(files[2]).unlink()
        files = write_series(place / "cut", VOLUME, AFFINE, series_number=71, header=person(71, "T2 Katharina"))
        Path(files[2]).write_bytes(Path(files[2]).read_bytes()[:900])
        for copy in ("Müller_1", "Müller_2"):
            write_series(place / copy, VOLUME, AFFINE, series_number=72, header=person(72, "T2 Katharina"))
        for copy, factor in (("Müller_3", 1), ("Müller_4", 2)):
            same = person(73, "T2 Katharina")
            write_series(place / copy, VOLUME // factor, AFFINE, series_number=73, header=same)
        for number in (74, 75):  # two series under one UID, which is no UID but a name
            both = person(number, "T2 Katharina", SeriesInstanceUID="KATHARINA.1962")
            files = write_series(
                place / "two", VOLUME, AFFINE, series_number=number, header=both, file_name=f"{number}_{{}}.dcm"
            )
            Path(files[number % 5]).unlink()


def traces(text):
    folded = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return {trace for trace in TRACES for form in (text.lower(), folded.lower()) if trace in form}


@pytest.mark.slow
def test_no_output_log_or_temporary_file_holds_the_identity(tmp_path):
    write_scans(tmp_path / "scans")
    write_faults(tmp_path / "scans")
    config, out = write_config(tmp_path), tmp_path / "out"
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-c", RUN, "run", "inference", "--config_file", str(config), "--write", "all"]
    command += ["--dataset_dir", str(tmp_path / "scans"), "--output_dir", str(out)]
    environment = os.environ | {"KEPT": str(tmp_path / "kept"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).replace(str(tmp_path), "")
    assert done.returncode == 1, said[-2000:]  # some are refused
    names = sorted(path.name for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))
    assert {f"{number:03d}_T2" for number in range(1, len(PHRASINGS) + 1)} <= set(names)
    kept = (tmp_path / "kept").read_bytes()
    assert b".partial" in kept  # temporary files are among what is searched
    texts = {"log": said, "temporary files": kept.decode(errors="replace").replace(str(tmp_path), "")}
    for path in [*out.rglob("*"), *(tmp_path / "tmp").rglob("*")]:
        texts[f"name of {path.name}"] = str(path.relative_to(tmp_path))
        if path.is_file() and path.suffix != ".dcm":  # an archive needs the patient in the derived series
            content = path.read_bytes()
            content = gzip.decompress(content) if path.name.endswith(".gz") else content
            texts[path.name] = content.decode(errors="replace")
    assert {name: found for name, text in texts.items() if (found := traces(text))} == {}


def test_messages_of_faulty_series_do_not_quote_the_header(tmp_path, caplog):
    write_faults(tmp_path)
    caplog.clear()  # pydicom's warnings while these files are written
    cases = find_series(tmp_path)
    assert sum(case.refusal is not None for case in cases) >= 6
    assert traces("\n".join(f"{case.name} {case.refusal}" for case in cases) + caplog.text) == set()


@pytest.mark.parametrize("name", ["Heart^Sella", "sella", "SELLA HEART"])
def test_a_protocol_word_that_is_the_patients_name_is_left_out(tmp_path, name):
    header = {"PatientName": name, "SeriesDescription": "T1 Sella cor"}
    write_series(tmp_path, VOLUME, AFFINE, header=header)
    assert [case.name for case in find_series(tmp_path)] == ["001_T1_cor"]


def test_names_of_many_volumes_take_linear_time(tmp_path):
    write_series(tmp_path, VOLUME, AFFINE)
    frame = find_series(tmp_path)[0].volume.frames[0]
    names = list(case_names([(frame, ())] * 20_000))
    assert names[:2] == ["001_T2_TSE", "001_T2_TSE_2"]
    assert len(set(names)) == 20_000
