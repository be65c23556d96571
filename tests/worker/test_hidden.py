"""No secret leaves in a log or a crash, also not one that was read after the process began."""

import json

from worker.config import load_settings
from worker.hidden import REMEMBERED, SECRETS, Secrets
from worker.secrets import secrets_of


def test_a_secret_of_a_file_is_hidden_from_when_it_was_read_and_so_is_what_takes_its_place(whole_config, monkeypatch):
    file = whole_config / "secret"
    file.write_text("first-secret\n")
    environments = whole_config / "environments.yaml"
    text = environments.read_text().replace("secret_key_env: TEST_SECRET_KEY", f"secret_key_file: {file}")
    environments.write_text(text)
    monkeypatch.setenv("TEST_ACCESS_KEY", "key-of-a-variable")
    settings = load_settings(whole_config)
    assert secrets_of(settings) == {"key-of-a-variable", "first-secret"}
    line = "first-secret, second-secret, key-of-a-variable"
    assert SECRETS.hide(line) == "********, second-secret, ********"
    file.write_text("second-secret\n")
    settings.environment("local").storage.secret_key.get_secret_value()
    # The one before still lets in for a while.
    assert SECRETS.hide(line) == "********, ********, ********"


def test_of_a_secret_that_is_replaced_again_and_again_the_last_ones_are_hidden_and_no_other_is_forgotten():
    secrets = Secrets(["that-of-a-variable"])
    names = [f"secret-{number:04}" for number in range(10 * REMEMBERED)]
    for name in names:
        secrets.learn(name, "/run/secrets/token")
    assert secrets.hide("that-of-a-variable") == "********"
    assert [name for name in names if secrets.hide(name) == name] == names[:-REMEMBERED]


def test_secrets_are_hidden_in_every_form_and_short_ones_hide_nothing_else():
    hide = Secrets(['key:se"cret-one', "abc", "", "prefix-secret", "prefix-secret-and-more"]).hide
    line = json.dumps({"event": 'se"cret-one abc prefix-secret-and-more prefix-secret'})
    assert json.loads(hide(line)) == {"event": "******** abc ******** ********"}
