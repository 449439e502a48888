"""Writes to images, references and registries."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from runtime.errors import AlreadyExists, ImageInUse, SpecInvalid
from runtime.model.codec import to_json
from runtime.model.image import ImageRecord
from runtime.model.reference import Reference
from webui.accounts.models import User
from webui.core import crypto
from webui.core.payloads import image_row
from webui.core.publish import publish_gone, publish_row
from webui.hosts.models import Host
from webui.hosts.services import host_lock
from webui.images.models import Image, Registry
from webui.images.models import Reference as ReferenceRow
from webui.images.selectors import images
from webui.operations.models import Operation
from webui.operations.services import event_record, operation_create

_LONGEST_NAME = 512  # characters, the column's
STARTER = "slipway/starter:latest"


def image_pull(
    *,
    host: Host,
    reference: str,
    username: str = "",
    password: str = "",
    plain_http: bool | None = None,
    user: User | None,
    via: str,
) -> Operation:
    """Ask the host to pull. Credentials are for this pull only, encrypted until it has ended; those in
    the settings of the registry are used when none are given.

    Raises SpecInvalid for a bad reference, or when only one of the credentials is given.
    """
    parsed = Reference.parse(reference)
    if bool(username) != bool(password):
        field = "password" if username else "username"
        raise SpecInvalid(
            field, f"{field} is missing.", hint="Give user name and password, or neither."
        )
    with transaction.atomic():
        if plain_http is not None:
            registry_save(hostname=parsed.registry, plain_http=plain_http)
        params: dict[str, Any] = {"reference": parsed.full}
        if username:
            params[Operation.SEALED] = crypto.encrypt(json.dumps([username, password]))
        return operation_create(
            host=host,
            kind="image.pull",
            target_type="image",
            target_id=parsed.full,
            target_name=parsed.familiar,
            user=user,
            via=via,
            params=params,
        )


def image_import(
    *, host: Host, operation_id: Any, reference: str, filename: str, user: User | None, via: str
) -> Operation:
    """Ask the host to import the upload that lies in the spool under `operation_id`."""
    full = Reference.parse(reference).full if reference else ""
    with transaction.atomic():
        return operation_create(
            host=host,
            kind="image.import",
            target_type="image",
            target_id=full,
            target_name=full or filename,
            user=user,
            via=via,
            params={"reference": full, "filename": filename},
            operation_id=operation_id,
        )


def image_starter(*, host: Host, user: User | None, via: str) -> Operation:
    """Ask the host to make the starter image of its own busybox."""
    name = Reference.parse(STARTER)
    return operation_create(
        host=host,
        kind="image.starter",
        target_type="image",
        target_id=name.full,
        target_name=name.familiar,
        user=user,
        via=via,
        params={"reference": name.full},
    )


def image_remove(*, image: Image, user: User | None, via: str) -> Operation:
    """Raises ImageInUse while a container is made of it."""
    with transaction.atomic():
        host_lock(host=image.host)
        holders = list(image.containers.values_list("name", flat=True))
        if holders:
            raise ImageInUse(
                f"The image is in use by {', '.join(holders[:5])}.",
                hint="Remove these containers first.",
                holders=holders,
            )
        names = [r.name for r in image.references.all()]
        return operation_create(
            host=image.host,
            kind="image.remove",
            target_type="image",
            target_id=image.digest,
            target_name=names[0] if names else image.digest[7:19],
            user=user,
            via=via,
        )


def image_tag(*, image: Image, reference: str) -> Image:
    """Give it one more name; a name that another image had moves here, as with Docker."""
    _point(image, new_name(reference).full)
    image_publish(digest=image.digest)
    return images().get(pk=image.pk)


def new_name(reference: str) -> Reference:
    """A name that an image may be given. Raises SpecInvalid for `reference`."""
    name = Reference.parse(reference)
    if name.digest:
        raise SpecInvalid("reference", "A name that is given to an image holds no digest.")
    if re.fullmatch(r"(library/)?[0-9a-f]{64}", name.repository):
        raise SpecInvalid(
            "reference",
            f"{reference.strip()!r} would read as an image's id.",
            hint="Choose a name with other letters: my-app:1.0.",
        )
    if len(name.full) > _LONGEST_NAME:
        raise SpecInvalid("reference", f"A name has {_LONGEST_NAME} characters at most.")
    return name


def check_unused(host: Host, name: str) -> None:
    """Raises AlreadyExists for `reference` when an image has this full name."""
    row = ReferenceRow.objects.filter(host=host, name=name).select_related("image").first()
    if row is not None:
        raise AlreadyExists(
            f"{Reference.parse(name).familiar} is the name of image {row.image.digest[7:19]}.",
            hint="Choose another tag, or replace it: the name moves here, and that image stays without it.",
            field="reference",
            image=row.image.digest,
        )


def image_untag(*, image: Image, reference: str) -> None:
    """Take a name away; the image stays."""
    ReferenceRow.objects.filter(image=image, name=Reference.parse(reference).full).delete()
    image_publish(digest=image.digest)


def _point(image: Image, name: str) -> None:
    before = ReferenceRow.objects.filter(host=image.host, name=name).select_related("image").first()
    ReferenceRow.objects.update_or_create(host=image.host, name=name, defaults={"image": image})
    if before is not None and before.image_id != image.pk:
        image_publish(digest=before.image.digest)


# -- the replica, written by workers -----------------------------------------------------------


def image_apply(
    *, host: Host, record: ImageRecord, references: list[str], move: bool = True
) -> Image:
    """Write what the store holds, and point `references` (full names) at it.

    Unless names may `move`, raises AlreadyExists for one that another image has; nothing is written then.
    """
    with transaction.atomic():
        if not move:
            host_lock(host=host)
            for name in references:
                check_unused(host, name)
        image, made = Image.objects.update_or_create(
            host=host,
            digest=record.id,
            defaults={
                "config": to_json(record.config),
                "layers": to_json(record.layers),
                "architecture": record.architecture,
                "os": record.os,
                "size": record.size,
                "manifest_digest": record.manifest_digest,
                "built_at": _built(record.created),
            },
        )
        for name in references:
            _point(image, name)
        if made:
            event_record(
                host=host,
                type="image.added",
                target_type="image",
                target_id=record.id,
                target_name=Reference.parse(references[0]).familiar
                if references
                else record.id[7:19],
            )
    image_publish(digest=record.id)
    return image


def _built(text: str) -> datetime | None:
    try:
        built = datetime.fromisoformat(text)
    except ValueError:
        return None
    return built if built.tzinfo else None


def image_delete_row(*, host: Host, digest: str) -> None:
    image = Image.objects.filter(host=host, digest=digest).first()
    if image is None:
        return
    with transaction.atomic():
        event_record(
            host=host,
            type="image.removed",
            target_type="image",
            target_id=digest,
            target_name=digest[7:19],
        )
        image.delete()
    publish_gone("images", digest)


def image_saved(*, image: Image, user: User, via: str) -> None:
    """Note who takes it out as an archive."""
    name = image.references.values_list("name", flat=True).first()
    event_record(
        host=image.host,
        type="image.saved",
        target_type="image",
        target_id=image.digest,
        target_name=Reference.parse(name).familiar if name else image.digest[7:19],
        user=user,
        data={"via": via},
    )


def image_publish(*, digest: str) -> None:
    image = images().filter(digest=digest).first()
    if image is not None:
        publish_row("images", image_row(image))


# -- registries --------------------------------------------------------------------------------


def registry_save(
    *,
    hostname: str,
    username: str | None = None,
    password: str | None = None,
    plain_http: bool | None = None,
) -> Registry:
    """Remember how to talk to a registry; None leaves what is known. Raises SpecInvalid.

    An empty user name takes the password away as well.
    """
    name = registry_name(hostname)
    values: dict[str, Any] = {}
    if username is not None:
        values["username"] = username
        if not username:
            values["encrypted_password"] = ""
    if password and username != "":
        values["encrypted_password"] = crypto.encrypt(password)
    if plain_http is not None:
        values["plain_http"] = plain_http
    registry, _ = Registry.objects.update_or_create(hostname=name, defaults=values)
    return registry


def registry_name(hostname: str) -> str:
    """As references name it: "docker.io", "registry.example:5000"."""
    try:
        name = Reference.parse(f"{hostname.strip()}/x", "hostname")
    except SpecInvalid:
        name = None
    # A first part that is no host name reads as part of a repository on Docker Hub.
    if name is None or name.repository not in ("x", "library/x"):
        raise SpecInvalid(
            "hostname",
            f"{hostname!r} is not a registry's host name.",
            hint="Write it as in a reference, without https://: registry.example:5000.",
        )
    return name.registry


def registry_remove(*, registry: Registry) -> None:
    registry.delete()


def pull_access(operation: Operation) -> tuple[tuple[str, str] | None, bool]:
    """As `registry_access`, for a pull: the credentials that came with it win."""
    registry = Reference.parse(operation.params["reference"]).registry
    credentials, plain_http = registry_access(registry)
    sealed = crypto.decrypt(operation.params.get(Operation.SEALED, ""))
    if sealed:
        username, password = json.loads(sealed)
        credentials = (username, password)
    return credentials, plain_http


def registry_access(hostname: str) -> tuple[tuple[str, str] | None, bool]:
    """((username, password) or None, plain HTTP allowed) for one registry."""
    listed = settings.ENVIRONMENT.insecure_registries.replace(" ", "").split(",")
    registry = Registry.objects.filter(hostname=hostname).first()
    if registry is None:
        return None, hostname in listed
    password = crypto.decrypt(registry.encrypted_password)
    credentials = (registry.username, password) if registry.username else None
    return credentials, registry.plain_http or hostname in listed
