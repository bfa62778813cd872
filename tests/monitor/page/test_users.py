"""Who may log in, for how long, and how often it may fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.page.sessions import FREE_FAILURES, LASTS_S, LONGEST_WAIT_S, LoginLimit, Sessions
from monitor.page.users import User, UserFile, add_user, check_password, read_users
from tests.monitor.page.messages import NOW_S

PASSWORD = "correct horse battery"
ADA = User("ada", "viewer", "hash")


def test_a_user_who_was_added_can_log_in_and_the_password_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "users.json"
    add_user(file, "ada", "responder", PASSWORD)
    add_user(file, "bo", "viewer", PASSWORD + "2")
    users = read_users(file)
    found = check_password(users, "ada", PASSWORD)
    assert found is not None
    assert found.role == "responder"
    assert check_password(users, "ada", PASSWORD + "2") is None
    assert check_password(users, "nobody", PASSWORD) is None
    assert PASSWORD not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_adding_a_user_again_changes_role_and_password(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    add_user(file, "ada", "responder", PASSWORD)
    add_user(file, "ada", "viewer", PASSWORD + "2")
    users = read_users(file)
    assert check_password(users, "ada", PASSWORD) is None
    assert users["ada"].role == "viewer"


@pytest.mark.parametrize(
    ("name", "password"), [("a b", PASSWORD), ("", PASSWORD), ("ada", "short"), ("ada", "x" * 300)]
)
def test_names_and_passwords_that_cannot_be_used_are_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ValueError, match="must"):
        add_user(tmp_path / "users.json", name, "viewer", password)


@pytest.mark.parametrize("content", ["", "{}", '[{"name": "a"}]', '[{"name":"a","role":"root","password":""}]'])
def test_a_damaged_file_of_users_is_an_error_and_lets_nobody_in(tmp_path: Path, content: str) -> None:
    file = tmp_path / "users.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ValueError, match="is not one"):
        read_users(file)


def test_a_file_of_users_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    add_user(file, "ada", "viewer", PASSWORD)
    file.chmod(0o644)
    with pytest.raises(ValueError, match="owner alone"):
        read_users(file)


def test_a_session_ends_by_itself_and_by_logging_out() -> None:
    sessions = Sessions()
    token, session = sessions.begin(ADA, NOW_S)
    assert sessions.find(token, NOW_S + 1) == session
    assert sessions.find(token + "x", NOW_S + 1) is None
    assert sessions.find(token, NOW_S + LASTS_S + 1) is None
    token, _ = sessions.begin(ADA, NOW_S)
    sessions.end(token)
    assert sessions.find(token, NOW_S) is None


def test_failed_logins_must_wait_longer_and_longer_and_success_forgets_them() -> None:
    limit, keys = LoginLimit(), ("name ada", "address 1.2.3.4")
    for _ in range(FREE_FAILURES):
        assert limit.wait_s(keys, NOW_S) <= 0
        limit.note_failure(keys, NOW_S)
    first = limit.wait_s(keys, NOW_S)
    limit.note_failure(keys, NOW_S)
    assert 0 < first < limit.wait_s(keys, NOW_S) <= LONGEST_WAIT_S
    assert limit.wait_s(("name bo", "address 1.2.3.4"), NOW_S) > 0
    assert limit.wait_s(("name bo", "address 4.3.2.1"), NOW_S) <= 0
    limit.note_success(keys)
    assert limit.wait_s(keys, NOW_S) <= 0


def test_a_session_ends_with_the_account_it_was_begun_for(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    for name in ("ada", "bo", "cy"):
        add_user(file, name, "responder", PASSWORD)
    users = read_users(file)
    sessions = Sessions(UserFile(file).users)
    tokens = {name: sessions.begin(users[name], NOW_S)[0] for name in users}
    add_user(file, "bo", "viewer", PASSWORD)
    add_user(file, "cy", "responder", PASSWORD + "2")
    assert [sessions.find(token, NOW_S) is not None for token in tokens.values()] == [True, False, False]
    file.write_text("[")
    assert sessions.find(tokens["ada"], NOW_S) is not None, "somebody is writing it"
    file.write_text("[]")
    assert sessions.find(tokens["ada"], NOW_S) is None
