"""Names in the output folder; files of methods found under common names, refused where a guess would be needed."""

import pytest

from scripts.evaluation.layout import EvaluationFolder, all_methods, method_file, parse_others, uncertainty_file
from scripts.geometry.errors import Refusal

CASES = ["head", "head_4x_rect"]


@pytest.fixture
def folder(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["head.nii.gz", "head_x.nii.gz"], "head.nii.gz"),
        (["head/head_glade.nii.gz", "head/head_uncertainty.nii.gz"], "head/head_glade.nii.gz"),
        (["head_truth.nii.gz", "head_unires.nii.gz"], "head_unires.nii.gz"),
        (["head-result.nii.gz", "head_4x_rect.nii.gz"], "head-result.nii.gz"),
        (["head_a.nii.gz", "head_uncertainty.nii.gz"], "head_a.nii.gz"),
        (["head10.nii.gz", "head_a.nii.gz"], "head_a.nii.gz"),
        (["head_noise2void.nii.gz"], "head_noise2void.nii.gz"),
    ],
)
def test_a_file_is_found_by_its_case(folder, names, expected):
    assert method_file(folder(*names), "UniRes", "head", CASES) == folder() / expected


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("head", "head10.nii.gz"),
        ("head", "head_3x_gauss.nii.gz"),
        ("head", "head_3x_gauss_UniRes.nii.gz"),
        ("head_4x_rect", "head_4x_rect_noise0.03.nii.gz"),
        ("head_4x_rect", "head_4x_rect_thickness0.8_UniRes.nii.gz"),
        ("head_4x_gauss", "head_4x_gauss_as-rect.nii.gz"),
    ],
)
def test_the_file_of_another_case_is_not_taken_even_where_that_case_is_unknown(folder, case, name):
    with pytest.raises(Refusal, match=f"no {case}.nii.gz"):
        method_file(folder(name), "UniRes", case, [case])


@pytest.mark.parametrize(("names", "line"), [([], "no head.nii.gz"), (["head_a.nii.gz", "head_b.nii.gz"], "several")])
def test_none_or_several_are_refused(folder, names, line):
    with pytest.raises(Refusal, match=line):
        method_file(folder(*names), "UniRes", "head", CASES)


def test_the_uncertainty_lies_beside_our_own_result_only(folder):
    root = folder("head/head_glade.nii.gz", "head/head_uncertainty.nii.gz", "head.nii.gz", "head_uncertainty.nii.gz")
    assert uncertainty_file(root / "head/head_glade.nii.gz") == root / "head/head_uncertainty.nii.gz"
    assert uncertainty_file(root / "head.nii.gz") is None


def test_results_of_our_methods_are_found_where_they_are_written(folder):
    out = EvaluationFolder(folder())
    written = out.interpolated_file("cubic", "head"), out.inference_file("GLADE", "head")
    beside = out.inference_file("GLADE", "head", "uncertainty")
    for path in (*written, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [method_file(out.method_folder(m), m, "head", CASES) for m in ("cubic", "GLADE")]
    assert found == list(written)
    assert uncertainty_file(written[1]) == beside


def test_others_are_taken_as_text_or_mapping(tmp_path):
    assert parse_others(None) == parse_others({}) == parse_others("") == {}
    assert parse_others(f"A={tmp_path},B={tmp_path}") == parse_others({"A": str(tmp_path), "B": tmp_path})


@pytest.mark.parametrize("others", ["A", "A=", "A=.,A=.", "A=/no/such/folder", ["A"], {"A": "/no/such"}])
def test_others_of_another_form_are_refused(others):
    with pytest.raises(Refusal, match="others"):
        parse_others(others)


def test_another_method_cannot_take_the_name_of_ours(tmp_path):
    with pytest.raises(Refusal, match="GLADE is the name"):
        all_methods(tmp_path, ["cubic", "GLADE"], {"GLADE": tmp_path})
    assert all_methods(tmp_path, ["cubic"], {"A": tmp_path}) == {"cubic": tmp_path / "methods/cubic", "A": tmp_path}
