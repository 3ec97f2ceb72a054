"""An Apache-2.0 bundle needs no package under a licence that would bind its users to more."""

import pytest

from apps.zoo.licences import GROUPS, closure, families, licence_of, requirements


@pytest.mark.parametrize("group", GROUPS)
def test_every_package_states_an_accepted_licence(group):
    packages = closure(requirements(group))
    assert {requirement.name.lower() for requirement in requirements(group)} <= set(packages), "not installed"
    found = [licence_of(package) for package in packages]
    assert [(licence.package, licence.stated) for licence in found if not licence.accepted] == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("GPL-3.0", {"GPL"}),
        ("GPL V3.0", {"GPL"}),
        ("GNU General Public License v3 (GPLv3)", {"GPL"}),
        ("LGPL-2.1-or-later", {"LGPL"}),
        ("GNU Lesser General Public License v3", {"LGPL"}),
        ("GNU Affero General Public License v3", {"AGPL"}),
        ("Other/Proprietary License", set()),
        ("ISC License (ISCL)", {"ISC"}),
        ("BSD-3-Clause AND GPL-2.0-only", {"BSD", "GPL"}),
    ],
)
def test_licences_are_recognised(text, named):
    assert families(text) == named
