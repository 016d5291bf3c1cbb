"""The Helm chart: linted, rendered for several installations, each object checked against Kubernetes' own schemas, and
what must hold of all of them asked of the objects."""

import os
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

CHART = os.environ["MESH_TEST_CHART"]
HELM = Path(sys.executable).with_name("helm")
OLDEST, NEWEST = "1.27.0", "1.37.0"
# By the Prometheus operator, whose schema Kubernetes does not have.
FOREIGN = {"ServiceMonitor"}
INSTALLATIONS = {
    "as it comes": [],
    "everything": [
        "nodes.replicas=2",
        "serviceMonitor.enabled=true",
        "gateway.ingress.enabled=true",
        "gateway.ingress.tlsSecret=certificate",
        "gateway.ingress.className=nginx",
        "otlpEndpoint=http://collector:4318",
        "nats.monitorUrl=http://nats:8222",
        "services.execution.settings.workers=8",
        r"services.gateway.settings.rates\.window_seconds=5",
        "env[0].name=OPENAI_API_KEY,env[0].valueFrom.secretKeyRef.name=models,env[0].valueFrom.secretKeyRef.key=openai",
        "memory.weightsClaim=weights",
        "networkPolicy.gatewayFrom[0].namespaceSelector.matchLabels.a=b",
    ],
    "small": ["seed.enabled=false", "networkPolicy.enabled=false", "podDisruptionBudget.enabled=false"]
    + [f"services.{name}.replicas=1" for name in ("registry", "execution", "gateway")],
}


def helm(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def rendered(settings: list[str]) -> list[dict]:
    given = [part for setting in settings for part in ("--set", setting)]
    done = helm("template", "mesh", CHART, "--namespace", "agents", *given)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def is_valid(objects: list[dict]) -> None:
    for one in objects:
        if one["kind"] not in FOREIGN:
            for version in (OLDEST, NEWEST):
                kubernetes_validate.validate(one, version, strict=True)


def of(objects: list[dict], kind: str) -> list[dict]:
    return [one for one in objects if one["kind"] == kind]


def pods(objects: list[dict]) -> list[tuple[str, dict, dict]]:
    """Kind and name, labels and spec of each pod."""
    kinds = ("Deployment", "StatefulSet", "Job")
    found = [one for kind in kinds for one in of(objects, kind)]
    template = lambda one: one["spec"]["template"]
    return [
        (f"{one['kind']} {one['metadata']['name']}", template(one)["metadata"]["labels"], template(one)["spec"])
        for one in found
    ]


def pods_have_no_rights(objects: list[dict]) -> None:
    for name, _, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert container["resources"]["limits"]["memory"], name
            given = {one["name"]: one.get("value") for one in container["env"]}
            assert given["MESH_REQUIRE_CREDENTIALS"] == "1", name
            assert len(given) == len(container["env"]), f"{name} names a variable twice"


def pods_mount_their_own_secret(objects: list[dict]) -> None:
    secrets = [
        (name, [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume])
        for name, _, spec in pods(objects)
    ]
    assert all(len(mounted) == 1 for _, mounted in secrets), secrets
    all_of_them = [mounted[0] for _, mounted in secrets]
    assert len(set(all_of_them)) == len(all_of_them), all_of_them


def pods_are_probed(objects: list[dict]) -> None:
    for name, _, spec in pods(objects):
        if not name.startswith("Job"):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert spec["containers"][0][probe]["httpGet"]["port"] == "ops", name
            assert spec["terminationGracePeriodSeconds"] > 30, name


def schema_is_brought_up_once(objects: list[dict]) -> None:
    (job,) = [one for one in of(objects, "Job") if one["metadata"]["name"].endswith("-migrate")]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def selects(selector: dict, labels: dict) -> bool:
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())


def selectors_find_their_pods(objects: list[dict]) -> None:
    everybody = pods(objects)
    found = lambda selector: sum(selects({"matchLabels": selector}, labels) for _, labels, _ in everybody)
    for service in of(objects, "Service"):
        assert found(service["spec"]["selector"]) == 1, service["metadata"]["name"]
    for budget in of(objects, "PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"]) == 1, budget["metadata"]["name"]


def nobody_is_reached_who_need_not_be(objects: list[dict]) -> None:
    policies = [one["spec"] for one in of(objects, "NetworkPolicy")]
    (deny,) = [one for one in policies if "ingress" not in one and "egress" not in one]
    for name, labels, _ in pods(objects):
        assert selects(deny["podSelector"], labels), f"{name} may be reached by anybody"
        own = [one for one in policies if one is not deny and selects(one["podSelector"], labels)]
        assert len(own) == 1, f"{name} has {len(own)} policies"
        ports = {port["port"] for rule in own[0]["ingress"] for port in rule["ports"]}
        expected = {"http", 9000} if labels["app.kubernetes.io/component"] == "gateway" else {9000}
        assert ports == expected, f"{name} is reached at {ports}"


def several_are_not_evicted_at_once(objects: list[dict]) -> None:
    several = [one for one in of(objects, "Deployment") if one["spec"]["replicas"] > 1]
    assert len(of(objects, "PodDisruptionBudget")) == len(several) == 9


def values_are_checked() -> None:
    wrong = {
        "imge.tag=1": "imge",
        "services.execution.replica=2": "replica",
        "services.vault.replicas=1": "vault",
        "nats.replicas=2": "nats.replicas",
    }
    for value, word in wrong.items():
        done = helm("template", "mesh", CHART, "--set", value)
        said = done.stderr.replace("/", ".")
        assert done.returncode != 0 and word in said, f"{value}: {done.stderr}"


linted = helm("lint", "--strict", CHART)
assert linted.returncode == 0, linted.stdout + linted.stderr
print("ok lint")
values_are_checked()
print("ok values")
for installation, settings in INSTALLATIONS.items():
    objects = rendered(settings)
    is_valid(objects)
    for check in (
        pods_have_no_rights,
        pods_mount_their_own_secret,
        pods_are_probed,
        schema_is_brought_up_once,
        selectors_find_their_pods,
    ):
        check(objects)
    if installation != "small":
        nobody_is_reached_who_need_not_be(objects)
        several_are_not_evicted_at_once(objects)
    print(f"ok {installation}: {len(objects)} objects")
