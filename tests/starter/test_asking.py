"""What commands tell people to type next can be typed as it stands."""

import pytest
from pydantic import SecretStr

from starter.asking import reached_by
from worker.config import Temporal

CLOUD = "shop.acct.tmprl.cloud:7233"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"address": "127.0.0.1:7233"}, ""),
        ({"address": "localhost:7233", "namespace": "default"}, ""),
        ({"address": "127.0.0.1:17233"}, " --address 127.0.0.1:17233"),
        (
            {"address": CLOUD, "namespace": "shop.acct", "tls": True},
            f" --address {CLOUD} --namespace shop.acct --tls",
        ),
        (
            {
                "address": CLOUD,
                "tls": {
                    "ca_file": "/etc/our ca.pem",
                    "cert_file": "/c.pem",
                    "key_file": "/k.pem",
                    "server_name": "temporal",
                },
            },
            (
                f" --address {CLOUD} --tls-ca-path '/etc/our ca.pem' --tls-cert-path /c.pem --tls-key-path /k.pem"
                " --tls-server-name temporal --tls"
            ),
        ),
    ],
    ids=["the default", "the default by name", "another port", "a cloud", "certificates of its own"],
)
def test_temporals_own_command_is_told_where_it_is_where_its_defaults_do_not_find_it(said, words):
    assert reached_by(Temporal.model_validate(said)) == words


def test_a_key_of_temporal_is_not_shown():
    temporal = Temporal.model_validate({"address": CLOUD}).model_copy(update={"api_key": SecretStr("open-sesame")})
    assert reached_by(temporal) == f' --address {CLOUD} --api-key "$TEMPORAL_API_KEY"'
