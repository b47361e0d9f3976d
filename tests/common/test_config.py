import pytest

from common.config import INCLUDES_MAX, Base, load
from common.errors import ConfigError


class Limits(Base):
    qty_max: int


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing required field `qty_max`"),
        ("qty_max = 1\nqty_mx = 2", "unknown field `qty_mx`"),
        ("qty_max = 'x'", r"Expected `int`, got `str` - at `\$\.qty_max`"),
        ("qty_max = ", "Invalid value"),
    ],
)
def test_broken_files_name_path_and_reason(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, Limits)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 78


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml", Limits)


class SetUp(Base):
    name: str
    limits: Limits
    speeds: dict[str, int] = {}


def write_files(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / f"{next(iter(texts))}.toml"


def test_a_files_own_keys_replace_those_of_the_file_it_includes(tmp_path):
    """Tables as a whole: `b` of the included [speeds] is not there; [limits] comes through two."""
    (tmp_path / "below").mkdir()
    write_files(tmp_path, base='include = "root.toml"\nname = "base"\n[speeds]\na = 1\nb = 2')
    write_files(tmp_path, root='name = "root"\n[limits]\nqty_max = 7')
    path = write_files(
        tmp_path / "below", own='include = "../base.toml"\nname = "own"\n[speeds]\na = 3'
    )
    loaded = load(path, SetUp)
    assert loaded == SetUp(name="own", limits=Limits(qty_max=7), speeds={"a": 3})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "include = 3"}, "a.toml: include is 3, expected the path"),
        ({"a": 'include = "none.toml"'}, "a.toml: include: .*none.toml is not there"),
        ({"a": 'include = "."'}, "is not there, expected a TOML file"),
        ({"a": 'include = "b.toml"', "b": 'include = "a.toml"'}, "b.toml: include: .*no circle"),
        ({"a": 'include = "a.toml"'}, "expected no circle"),
        ({"a": 'include = "b.toml"', "b": "qty_max ="}, "b.toml: Invalid value"),
        (
            {"a": 'include = "b.toml"', "b": "qty_max = 'x'"},
            r"a.toml: Expected `int`, got `str` - at `\$\.qty_max` \(included: .*b.toml\)",
        ),
        (
            {f"f{k}": f'include = "f{k + 1}.toml"' for k in range(INCLUDES_MAX + 2)}
            | {f"f{INCLUDES_MAX + 2}": ""},
            "expected at most 8",
        ),
    ],
)
def test_a_wrong_include_names_the_file_that_says_it(tmp_path, texts, message):
    with pytest.raises(ConfigError, match=message):
        load(write_files(tmp_path, **texts), Limits)
