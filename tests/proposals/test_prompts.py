"""Prompt files are immutable per version: a change is a new version."""

import pytest

from proposals import services
from proposals.contracts import AdvisorUnavailable
from proposals.services.questions import DATA_MARK

PUBLISHED = {
    "v1": "c2ecb0de604df9550ed405eda3e63753db4c13939def9ef66d731086c33a5c5a",
    "v2": "b65fdad0efe6f40ab9f4100e3774c5d57aaba3563519537c01ecca9935320abc",
}


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_prompt_never_changes(version: str) -> None:
    """When this fails: put the old text back and make the next version instead."""
    assert services.load_prompt(version).sha256 == PUBLISHED[version]


@pytest.mark.parametrize("version", PUBLISHED)
def test_prompt_holds_one_place_for_the_data_and_no_other_braces(version: str) -> None:
    prompt = services.load_prompt(version)

    assert prompt.user.count(DATA_MARK) == 1
    assert not {"{", "}"} & set(prompt.user + prompt.system)


@pytest.mark.parametrize("version", ["v3", "", "../v1", "v1/", "V1"])
def test_unknown_version_is_refused(version: str) -> None:
    with pytest.raises(AdvisorUnavailable, match="PROMPT_MISSING"):
        services.load_prompt(version)
