"""Settings: every problem at once, each with its variable; what Kubernetes injects is no problem."""

import pytest

from functions.runtime.errors import StartupFailed
from functions.runtime.process_environment import to_environ
from functions.runtime.settings import Settings, load_settings


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(StartupFailed) as refused:
        load_settings(environ)
    return str(refused.value).split("; ")


def test_every_problem_is_named_with_its_variable() -> None:
    found = problems(
        {
            "PICKSPIN_IDLE_S": "soon",
            "PICKSPIN_WORKER_MAX_CALLS": "0",
            "PICKSPIN_BREAKER": "1",
            "PICKSPIN_INGRESS_TENANT_SHARE": "1.5",
        }
    )

    assert found == [
        "PICKSPIN_BREAKER is no setting (pickspin settings lists them)",
        "PICKSPIN_IDLE_S must be a number of at least 0, not 'soon'",
        "PICKSPIN_INGRESS_TENANT_SHARE must be a number from 0 to 1, not '1.5'",
        "PICKSPIN_WORKER_MAX_CALLS must be a whole number of at least 1, not '0'",
    ]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "", "1e999", "1 s"])
def test_a_number_is_finite_and_not_negative(value: str) -> None:
    (found,) = problems({"PICKSPIN_STORE_RETENTION_DAYS": value})

    assert found.startswith("PICKSPIN_STORE_RETENTION_DAYS must be a number of at least 0")


def test_the_nearest_name_is_offered() -> None:
    (found,) = problems({"PICKSPIN_STORE_RETENTION_DAY": "1"})

    assert found.endswith("(did you mean PICKSPIN_STORE_RETENTION_DAYS?)")


def test_two_names_of_one_setting_must_agree() -> None:
    (found,) = problems({"PICKSPIN_PORT": "1", "PICKSPIN_INGRESS_PORT": "2"})

    assert found == "PICKSPIN_INGRESS_PORT and PICKSPIN_PORT are one setting, and differ"
    assert load_settings({"PICKSPIN_PORT": "1", "PICKSPIN_INGRESS_PORT": "1"}).ingress.port == 1


def test_links_of_kubernetes_are_not_ours() -> None:
    links = {
        "PICKSPIN_PORT": "tcp://10.0.0.7:80",
        "PICKSPIN_INGRESS_PORT": "tcp://10.0.0.7:80",
        "PICKSPIN_INGRESS_PORT_80_TCP": "tcp://10.0.0.7:80",
        "PICKSPIN_INGRESS_PORT_80_TCP_ADDR": "10.0.0.7",
        "PICKSPIN_INGRESS_SERVICE_HOST": "10.0.0.7",
        "PICKSPIN_INGRESS_SERVICE_PORT": "80",
        "PICKSPIN_INGRESS_SERVICE_PORT_HTTP": "80",
    }

    assert load_settings(links) == Settings()


def test_a_setting_whose_name_looks_like_a_link_is_still_one() -> None:
    assert load_settings({"PICKSPIN_WORKER_SERVICE": "tiny"}).worker.service == "tiny"


def test_what_a_child_is_given_is_read_back() -> None:
    given = load_settings({"PICKSPIN_IDLE_S": "7", "PICKSPIN_ROUTER_CLASSIFIER": "keyword"})

    assert load_settings(to_environ(given)) == given
