"""Which third-party libraries each package uses; what may import what within scripts/ is import-linter's."""

import ast
import sys

import pytest

from tests.conftest import ROOT

from .source import PACKAGES, modules

LIBRARIES = {
    "geometry": {"numpy", "nibabel", "torch", "tqdm"},
    "physics": {"numpy", "scipy", "torch"},
    "data": {"numpy", "scipy", "torch", "monai", "nibabel"},
    "dicom": {"numpy", "torch", "monai", "pydicom", "imagecodecs"},
    "derived_series": {"numpy", "torch", "monai", "pydicom"},
    "phantom": {"numpy", "torch", "monai"},
    "metrics": {"numpy", "scipy", "torch", "skimage"},
    "stacks": {"numpy", "scipy", "torch", "monai", "nibabel", "itk"},
    "learning": {"numpy", "scipy", "torch", "monai", "ignite", "PIL"},  # TensorBoard through torch.utils
    "run": {"numpy", "torch", "monai", "ignite", "nibabel", "filelock"},
    "evaluation": {"numpy", "scipy", "torch", "monai", "nibabel", "skimage"},
    "reports": {"numpy", "scipy", "skimage", "matplotlib", "jinja2", "nibabel"},
    "study": {"numpy", "scipy", "torch", "jinja2"},
}


def third_party(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_packages_are_the_known_ones_and_their_init_files_are_empty():
    found = {p.name for p in (ROOT / "scripts").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert found == set(PACKAGES)
    assert [path for path, tree in modules() if path.endswith("__init__.py") and tree.body] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_uses_only_its_own_libraries(package):
    used = {name: path for path, tree in modules(package) for name in third_party(tree)}
    assert {name: path for name, path in used.items() if name not in LIBRARIES[package]} == {}
