"""What a process is told where there are no network namespaces: addresses on loopback instead of names."""

from tests.topology.deployed import services
from tests.topology.network import Loopback
from tests.topology.stack import PASSWORDS


def told(name, number=1):
    known = services(PASSWORDS)
    network = Loopback(list(known))
    place = network.join(name, number)
    return place, network.environment(place, known[name].environment)


def test_no_name_of_a_service_is_left_and_every_replica_is_known():
    place, env = told("orchestrator")
    assert not {value for value in env.values() if any(f"/{one}" in value for one in ("encoder:", "valkey:"))}
    kind, _, addresses = env["ALMANAC_ENCODER_ADDRESS"].partition(":")
    assert kind == "ipv4" and [one.rpartition(":")[2] for one in addresses.split(",")] == ["8431"] * 3
    assert len({one.rpartition(":")[0] for one in addresses.split(",")} | {place.address}) == 4
    assert "@postgres" not in env["ALMANAC_CATALOG_URL"] and "@127." in env["ALMANAC_CATALOG_URL"]


def test_a_process_listens_on_its_own_address_and_tells_its_figures_on_its_own_port():
    place, env = told("encoder", 2)
    assert env["ALMANAC_ENCODER_ADDRESS"] == f"{place.address}:8431"
    assert env["ALMANAC_METRICS_PORT"] == str(place.figures) != "9464"
