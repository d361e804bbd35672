"""Names that differ in Unicode form, case or blanks from those on disk."""

import string
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfold.data.name_matching import DiskNames, Names, name_key, points_outside

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)


@given(TEXT)
def test_unicode_forms_and_blanks_have_one_key(name):
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    assert {name_key(form) for form in [*forms, f" {name}\t"]} == {name_key(name)}


@given(st.text(string.ascii_letters + string.digits + "가힣éÉ_ ", min_size=1, max_size=8))
def test_case_does_not_change_the_key(name):
    assert name_key(name.upper()) == name_key(name.lower()) == name_key(name)


@given(st.lists(TEXT, unique=True, max_size=6), TEXT)
def test_exact_names_come_first_and_near_ones_only_if_unique(names, other):
    found = Names(names)
    assert all(found.find(name) == name for name in names)
    near = [name for name in names if name_key(name) == name_key(other)]
    match = found.find(other)
    assert match in (near if len(near) == 1 or match in (other, other.strip()) else [None])


def test_names_that_differ_only_in_case_or_form_are_two_names():
    composed, decomposed = (unicodedata.normalize(form, "김") for form in ("NFC", "NFD"))
    names = Names([composed, decomposed, "kim", "Kim"])
    assert names.find(composed) == composed
    assert names.find(decomposed) == decomposed
    assert names.find("KIM") is None
    assert "'kim' and 'Kim'" in names.hint("KIM")
    # Printed as they are, the two look the same.
    assert "\\u" in names.hint(f"{composed[:0]}\u1100\u1175\u11b7 ".replace(" ", "\u200b"))


@pytest.mark.parametrize("written", ["12", "12.0", "012", "1.2E+01", "1.2e1"])
def test_numbers_of_spreadsheets_are_named_but_not_matched(written):
    names = Names(["000012", "000013"])
    assert names.find(written) is None
    assert "did you mean 000012" in names.hint(written)


def test_misspelled_names_are_suggested_within_a_second():
    names = Names([f"{number:06d}_male_Asian_20" for number in range(10_000)])
    start = time.process_time()
    hints = [names.hint(f"{number:06d}_mule_Asian_20") for number in range(3000)]
    assert "did you mean" in hints[0]
    assert time.process_time() - start < 5


def test_paths_are_matched_part_by_part(tmp_path):
    (tmp_path / "Group A" / "Kim").mkdir(parents=True)
    disk = DiskNames(tmp_path)
    assert disk.find("group a/KIM") == tmp_path / "Group A" / "Kim"
    assert disk.is_exact("Group A/Kim")
    assert disk.is_exact("./Group A/Kim/")
    assert not disk.is_exact("group a/KIM")
    assert disk.find("group a/Kam") is None
    assert "did you mean Kim" in disk.hint("group a/Kam")


@pytest.mark.parametrize("name", ["..", "a/../../b", "/a", "\\\\server\\x", "C:x", "", " ", "."])
def test_names_that_point_outside(name):
    assert points_outside(name)


@pytest.mark.parametrize("name", ["000001_male_Asian_20", "a b.jpg", "한글.jpg", "..a", "a..b"])
def test_names_that_point_inside(name):
    assert not points_outside(name)
