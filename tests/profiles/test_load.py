from pathlib import Path

import pytest

from evedge.core.errors import UsageError
from evedge.core.profile import ProfileError, load
from evedge.profiles import load_profile, names


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", names())
def test_every_built_in_profile_loads_and_says_where_its_facts_come_from(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.sources
    assert "state" in profile.measurands
    for register in profile.registers.values():
        assert register.source, register.name


def test_a_built_in_profile_is_read_once():
    assert load_profile("abb-terra-ac") is load_profile("abb-terra-ac")


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("abb", "abb-terra-ac"),
        ("abb-tera-ac", "abb-terra-ac"),
        ("KEBA", "keba-kecontact-p40"),
        ("zzz", "`evedge profiles`"),
    ],
)
def test_a_misspelt_name_brings_the_nearest(wrong, hint):
    with pytest.raises(UsageError) as refused:
        load_profile(wrong)
    assert hint in one_line(refused)


def test_a_profile_may_be_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[device]\nvendor = "Me"\nmodel = "One"\n[registers]\nmode = { address = 1 }\n[[state]]\nis = "unknown"\n'
    )
    assert load_profile(str(file)).name == "mine"


def test_what_cannot_be_read_is_one_line(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "dir" / "x"):
        with pytest.raises(UsageError) as refused:
            load_profile(f"{path}/" if path == tmp_path else str(path))
        assert "cannot read the profile" in one_line(refused)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = ", b""])
def test_bad_content_is_named_as_such(tmp_path, content):
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ProfileError) as refused:
        load_profile(str(file))
    assert all("\n" not in mistake for mistake in refused.value.mistakes)


def test_the_example_in_the_documents_is_a_profile():
    document = (Path(__file__).parents[2] / "docs" / "PROFILES.md").read_text(encoding="utf-8")
    _, _, after = document.partition("## The smallest one\n")
    example, _, _ = after.partition("\n## ")
    profile = load("\n".join(line.removeprefix("    ") for line in example.splitlines()), "example")
    assert profile.limit.round_down(10.9) == 10
