"""The overlays as a cluster would get them: rendered by kubectl, then held against the rules."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.kernel.config import load
from services.kernel.parsers import as_size
from services.task_scheduler.__main__ import SERVICE
from tests.support.settings import SERVICES, declared

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("development", "production")
REPLICATED = "replicated"
"""Production with a journal that schedulers share; held against the rules that it changes."""
SCHEMA_VERSIONS = ("1.31", "1.33")
DRAIN_S_MAX = 25

Resource = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Resource, ...]:
    beside = str(Path(sys.executable).parent)
    kubectl = shutil.which("kubectl", path=beside) or shutil.which("kubectl")
    assert kubectl, "kubectl is neither installed with the tests nor on the PATH"
    text = subprocess.run(
        [kubectl, "kustomize", ROOT / "deploy/kubernetes/overlays" / overlay],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(yaml.safe_load_all(text))


def of_kind(overlay: str, *kinds: str) -> dict[str, Resource]:
    """Returns resources by their name, spelled as the services are."""
    return {
        resource["metadata"]["name"].replace("-", "_"): resource
        for resource in rendered(overlay)
        if resource["kind"] in kinds
    }


def workloads(overlay: str) -> dict[str, Resource]:
    """Returns the services; what they lean on, Redis, is no workload of ours."""
    found = of_kind(overlay, "Deployment", "StatefulSet")
    found.pop("redis", None)
    return found


def pod(workload: Resource) -> Resource:
    spec: Resource = workload["spec"]["template"]["spec"]
    return spec


def container(workload: Resource) -> Resource:
    (only,) = pod(workload)["containers"]
    return dict(only)


def settings(overlay: str) -> dict[str, str]:
    (config_map,) = of_kind(overlay, "ConfigMap").values()
    return dict(config_map["data"])


every_workload = pytest.mark.parametrize(
    ("overlay", "service"),
    [
        *((overlay, service) for overlay in OVERLAYS for service in SERVICES),
        (REPLICATED, "task_scheduler"),
    ],
)


@pytest.mark.parametrize("version", SCHEMA_VERSIONS)
@pytest.mark.parametrize("overlay", [*OVERLAYS, REPLICATED])
def test_every_resource_satisfies_the_schema_of_kubernetes(overlay: str, version: str) -> None:
    for resource in rendered(overlay):
        kubernetes_validate.validate(resource, version, strict=True)


def test_the_schema_check_refuses_a_wrong_resource() -> None:
    workload = workloads("development")["routing"]
    wrong = {**workload, "spec": {**workload["spec"], "replicas": "five"}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SCHEMA_VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_runs_once_by_its_own_command(overlay: str) -> None:
    commands = {name: container(each)["args"] for name, each in workloads(overlay).items()}

    assert commands == {service: [f"services.{service}"] for service in SERVICES}


@every_workload
def test_a_pod_meets_the_restricted_standard(overlay: str, service: str) -> None:
    spec = pod(workloads(overlay)[service])
    only = container(workloads(overlay)[service])

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert all("hostPort" not in port for port in only["ports"])
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec["volumes"]:
        assert (volume.keys() - {"name"}) <= allowed
    assert spec["automountServiceAccountToken"] is False


@every_workload
def test_a_pod_writes_to_mounted_volumes_alone(overlay: str, service: str) -> None:
    workload = workloads(overlay)[service]
    claims = workload["spec"].get("volumeClaimTemplates", [])
    volumes = {v["name"] for v in pod(workload)["volumes"]} | {
        c["metadata"]["name"] for c in claims
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container(workload)["volumeMounts"]}

    assert set(mounts.values()) == volumes
    assert settings(overlay)["PODIUM_DATA_DIR"] in mounts
    assert "/tmp" in mounts


def test_the_journal_outlives_its_pod() -> None:
    for overlay in OVERLAYS:
        scheduler = workloads(overlay)["task_scheduler"]
        (claim,) = scheduler["spec"]["volumeClaimTemplates"]

        assert claim["metadata"]["name"] == "data"
        assert scheduler["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_scheduler_answers_full_before_its_memory_or_its_volume_is(overlay: str) -> None:
    scheduler = workloads(overlay)["task_scheduler"]
    (claim,) = scheduler["spec"]["volumeClaimTemplates"]
    memory = container(scheduler)["resources"]["limits"]["memory"]
    limits = load(SERVICE.settings, {**settings(overlay), "PODIUM_AUTH": "off"})

    held = limits.open_bytes_max + limits.ended_bytes_max + limits.tail_bytes_max
    # A queued task costs at most 1.5 KB beside what was submitted; as much again is for the rest.
    assert held + 512 * 2**20 <= quantity(memory)
    assert limits.open_tasks_max * 1536 <= quantity(memory) / 2
    # The log is written beside the snapshot, and what is dropped of it leaves room behind.
    assert limits.log_bytes_max * 1.5 <= quantity(claim["spec"]["resources"]["requests"]["storage"])


def quantity(text: str) -> int:
    """Returns the bytes of a quantity of Kubernetes in binary units, such as 2Gi."""
    return as_size(f"{text}B")


@every_workload
def test_a_pod_has_requests_a_memory_limit_and_time_to_drain(overlay: str, service: str) -> None:
    workload = workloads(overlay)[service]
    resources = container(workload)["resources"]

    assert resources["requests"].keys() == {"cpu", "memory"}
    assert "memory" in resources["limits"]
    assert pod(workload)["terminationGracePeriodSeconds"] > DRAIN_S_MAX


@every_workload
def test_probes_ask_the_port_of_the_settings_and_tell_life_from_readiness(
    overlay: str, service: str
) -> None:
    only = container(workloads(overlay)[service])
    port = declared(service).port
    ports = {each["name"]: each["containerPort"] for each in only["ports"]}

    if service == "edge":
        assert ports == {"http": port}
        assert only["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
        assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        return
    assert ports == {"grpc": port, "metrics": port + 100}
    # Liveness must not depend on peers or stores, or one failure restarts everything.
    assert only["livenessProbe"]["grpc"] == {"port": port}
    assert only["startupProbe"]["grpc"] == {"port": port}
    assert only["readinessProbe"]["grpc"] == {"port": port, "service": "readiness"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_has_an_address_and_the_settings_name_it(overlay: str) -> None:
    for service in SERVICES:
        resource = of_kind(overlay, "Service")[service]
        (port,) = resource["spec"]["ports"]
        labels = workloads(overlay)[service]["spec"]["template"]["metadata"]["labels"]

        assert port["port"] == declared(service).port
        assert resource["spec"]["selector"].items() <= labels.items()
        if service != "edge":  # no service dials the edge
            name = resource["metadata"]["name"]
            address = settings(overlay)[f"PODIUM_{service.upper()}_ADDRESS"]
            assert address == f"{name}:{port['port']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_that_a_service_reads(overlay: str) -> None:
    read = set().union(*(declared(service).defaults for service in SERVICES))

    assert settings(overlay).keys() - read == set()
    assert settings(overlay)["PODIUM_PROFILE"] == overlay


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_lets_pass_exactly_the_service_graph(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies.pop("default_deny")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    policies.pop("resolve_names")
    for name in ("redis", "agent_registry_to_redis"):
        policies.pop(name, None)
    dialled = {
        (service, peer) for service in SERVICES for peer in declared(service).peers - {service}
    }

    assert edges(policies, "egress", "to") == dialled
    # A policy's own pods are the far end of what comes in. The edge lets in everybody.
    inward = {(peer, service) for service, peer in edges(policies, "ingress", "from")}
    assert inward == {(service, peer) for service, peer in dialled if peer != "edge"}


def edges(policies: dict[str, Resource], way: str, peers: str) -> set[tuple[str, str]]:
    """Lists (policy's pods, the other pods); ports other than the dialled service's fail."""
    found = set()
    for service, policy in policies.items():
        for rule in policy["spec"][way]:
            for peer in rule.get(peers, []):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if name := labels.get("app.kubernetes.io/name", "").replace("-", "_"):
                    dialled = name if way == "egress" else service
                    assert rule["ports"] == [{"port": declared(dialled).port}]
                    found.add((service, name))
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_pod_of_a_service_at_a_time_may_be_evicted(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")

    assert budgets.keys() == set(SERVICES)
    for service, budget in budgets.items():
        labels = workloads(overlay)[service]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budget["spec"]["maxUnavailable"] == 1


def test_production_replicates_what_holds_no_state_that_others_need() -> None:
    replicas = {name: each["spec"]["replicas"] for name, each in workloads("production").items()}

    several = {"agent_registry": 3, "edge": 5, "routing": 5}
    assert replicas == {**dict.fromkeys(SERVICES, 1), **several}
    for service in several:
        spread = pod(workloads("production")[service])["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }


def test_the_registries_of_production_share_a_redis_that_only_they_reach() -> None:
    production = of_kind("production", "Deployment")
    redis, registry = production["redis"], production["agent_registry"]
    policies = of_kind("production", "NetworkPolicy")
    (service,) = of_kind("production", "Service")["redis"]["spec"]["ports"]
    (only,) = pod(redis)["containers"]

    assert settings("production")["PODIUM_AGENT_REGISTRY_STORE"] == "redis"
    assert settings("production")["PODIUM_REDIS_URL"] == f"redis://redis:{service['port']}/0"
    assert registry["spec"]["strategy"]["type"] == "RollingUpdate"
    assert only["ports"] == [{"name": "redis", "containerPort": service["port"]}]
    assert only["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod(redis)["securityContext"]["runAsNonRoot"] is True
    (rule,) = policies["redis"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": service["port"]}]
    (peer,) = rule["from"]
    names = peer["podSelector"]["matchLabels"]
    assert names == registry["spec"]["selector"]["matchLabels"]
    assert "egress" not in policies["redis"]["spec"]
    (way,) = policies["agent_registry_to_redis"]["spec"]["egress"]
    assert way["ports"] == rule["ports"]


def test_production_asks_every_caller_who_he_is() -> None:
    production = settings("production")

    assert production["PODIUM_AUTH"] == "jwt"
    for workload in workloads("production").values():
        mounts = {mount["mountPath"] for mount in container(workload)["volumeMounts"]}
        assert production["PODIUM_AUTH_KEYS_DIR"] in mounts
        assert str(Path(production["PODIUM_AUTH_TOKEN_FILE"]).parent) in mounts


def test_schedulers_that_share_a_database_stand_in_for_each_other() -> None:
    scheduler = workloads(REPLICATED)["task_scheduler"]
    chosen = load(SERVICE.settings, {**settings(REPLICATED), "PODIUM_AUTH": "off"})
    environ = {each["name"]: each for each in container(scheduler)["env"]}

    assert scheduler["spec"]["replicas"] == 3
    assert chosen.journal == "postgres"
    # Each tells the others an address that is its own and not the service's.
    assert environ["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert environ["PODIUM_ADVERTISED_AT"]["value"] == f"$(POD_IP):{chosen.port}"
    assert "volumeClaimTemplates" not in scheduler["spec"]
    mounts = {mount["mountPath"] for mount in container(scheduler)["volumeMounts"]}
    assert str(Path(chosen.postgres_password_file).parent) in mounts


def test_schedulers_that_share_a_database_reach_it_and_each_other() -> None:
    added = of_kind(REPLICATED, "NetworkPolicy").keys() - of_kind("production", "NetworkPolicy")
    (policy,) = (of_kind(REPLICATED, "NetworkPolicy")[name] for name in added)
    labels = {"app.kubernetes.io/name": "task-scheduler"}
    to = {
        rule["ports"][0]["port"]: rule["to"][0]["podSelector"]["matchLabels"]
        for rule in policy["spec"]["egress"]
    }

    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    assert to == {7701: labels, 5432: {"app.kubernetes.io/name": "postgresql"}}
    (inward,) = policy["spec"]["ingress"]
    assert inward["from"] == [{"podSelector": {"matchLabels": labels}}]


@pytest.mark.parametrize("overlay", [*OVERLAYS, REPLICATED])
def test_no_secret_stands_in_the_manifests(overlay: str) -> None:
    assert of_kind(overlay, "Secret") == {}
