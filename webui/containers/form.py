"""What the create form starts from: images with their configs, host capacity, another container's spec."""

from __future__ import annotations

from typing import Any

from runtime.errors import SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.spec import ContainerSpec
from webui.containers.asking import once_everywhere, request_of
from webui.containers.fields import SECTIONS
from webui.containers.models import Container
from webui.hosts.models import Host
from webui.images.models import Image
from webui.networks.models import Network
from webui.volumes.models import Volume

# Where well-known servers keep their data, for images that declare no VOLUME.
DATA_DIRECTORIES = {
    "postgres": "/var/lib/postgresql/data",
    "mysql": "/var/lib/mysql",
    "mariadb": "/var/lib/mysql",
    "mongo": "/data/db",
    "redis": "/data",
    "valkey": "/data",
    "elasticsearch": "/usr/share/elasticsearch/data",
    "influxdb": "/var/lib/influxdb2",
    "rabbitmq": "/var/lib/rabbitmq",
    "grafana": "/var/lib/grafana",
    "prometheus": "/prometheus",
    "minio": "/data",
    "gitea": "/data",
    "nextcloud": "/var/www/html",
    "registry": "/var/lib/registry",
}


def form_context(*, image: str, source: Container | None, volume: str = "") -> dict[str, Any]:
    """Template context of the create form. `data` is what the page's script reads as JSON.

    `volume` is a path in the container that is to become a named volume.
    """
    choices = image_choices()
    host = Host.objects.order_by("name").first()
    facts = host.facts if host else {}
    chosen = image or (source.image_reference if source else "")
    data = {
        "images": choices,
        "capacity": {"cpus": facts.get("cores"), "memory": facts.get("memory_total")},
        "initial": initial_values(source) if source else None,
        "volume": volume,
    }
    return {
        "images": choices,
        "chosen": chosen,
        "source": source,
        "facts": facts,
        "networks": Network.objects.order_by("-is_default", "name"),
        "volumes": Volume.objects.filter(anonymous=False).order_by("name"),
        "others": Container.objects.order_by("name").values_list("name", flat=True),
        "sections": SECTIONS,
        "data": data,
    }


def image_choices() -> list[dict[str, Any]]:
    """Each image under each of its names: {value, id, config…, data_dirs}, by name."""
    choices = []
    for image in Image.objects.prefetch_related("references"):
        names = [familiar(reference.name) for reference in image.references.all()]
        for name in names or [image.digest]:
            config = image.config
            choices.append(
                {
                    "value": name,
                    "id": image.digest,
                    "entrypoint": config.get("entrypoint") or [],
                    "cmd": config.get("cmd") or [],
                    "env": config.get("env") or [],
                    "working_dir": config.get("working_dir") or "/",
                    "user": config.get("user") or "root",
                    "exposed_ports": config.get("exposed_ports") or [],
                    "volumes": config.get("volumes") or [],
                    "data_dirs": known_data_directories(name, config.get("volumes") or []),
                }
            )
    return sorted(choices, key=lambda choice: str(choice["value"]))


def familiar(name: str) -> str:
    """The short form people write: "docker.io/library/nginx:latest" → "nginx:latest"."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def known_data_directories(reference: str, declared: list[str]) -> list[str]:
    """Paths that a well-known server writes to and that no VOLUME of the image covers."""
    repository = reference.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    path = DATA_DIRECTORIES.get(repository)
    return [path] if path and path not in declared else []


def initial_values(source: Container) -> dict[str, Any]:
    """Another container's spec as a request, so that it can be run again with changes.

    Values that the image gives anyway are left out: they show as placeholders. {"request", "ports"}.
    """
    try:
        spec = from_json(ContainerSpec, source.spec)
    except SpecInvalid:
        return {"request": {"name": f"{source.name}-copy"}, "ports": []}
    request = request_of(
        spec,
        source.image.config if source.image else {},
        networks=dict(Network.objects.values_list("pk", "name")),
        names=dict(Container.objects.filter(pk__in=_shared(spec)).values_list("pk", "name")),
    )
    # What only one container can have.
    for name in ("ports", "mac_address", "link_local_ips"):
        request.pop(name, None)
    ports = [{**to_json(port), "host_port": ""} for port in once_everywhere(spec.ports)]
    return {"request": {**request, "name": f"{source.name}-copy"}, "ports": ports}


def _shared(spec: ContainerSpec) -> list[str]:
    """Ids of the containers whose namespaces it shares."""
    modes = (spec.namespaces.network, spec.namespaces.pid, spec.namespaces.ipc)
    return [m.removeprefix("container:") for m in modes if m.startswith("container:")]
