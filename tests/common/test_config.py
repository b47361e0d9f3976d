import pytest

from common.config import Base, load
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
