import stat

import pytest

from wmcomponents.play.token import FILE, kept_token


def test_the_same_folder_has_the_same_token_that_nobody_else_may_read(tmp_path):
    token = kept_token(tmp_path / "out")
    assert token == kept_token(tmp_path / "out") and len(token) == 43
    assert token != kept_token(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "out" / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["readable by others", "short", "a link", "long"])
def test_what_is_no_private_token_is_replaced(tmp_path, kind):
    kept, file = kept_token(tmp_path), tmp_path / FILE
    if kind == "readable by others":
        file.chmod(0o644)
    elif kind == "a link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text("guess" if kind == "short" else kept + "x" * 100)
    assert kept_token(tmp_path) != kept and not file.is_symlink()
    if kind == "a link":
        assert (tmp_path / "elsewhere").read_text().strip() == kept
