"""/api/v1/images"""

from __future__ import annotations

import re
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header
from ninja import File, Form, Router, UploadedFile
from pydantic import Field

from runtime.errors import NotFound, SpecInvalid
from runtime.model.reference import Reference
from webui.api.answers import DONE, MADE, Answer, WaitQuery, answer
from webui.api.auth import admin, operator, reader, reads_values
from webui.api.blocks import decoded_blocks
from webui.api.uploads import SpooledUpload
from webui.containers.requests import Request
from webui.core.payloads import image_row, operation_row
from webui.core.redact import without_values
from webui.core.rows import ImageRow, ImageWhole, OperationRow
from webui.hosts.selectors import current_host
from webui.images import services
from webui.images.models import Image
from webui.images.selectors import image_find, images
from webui.live import stream_client
from webui.operations.models import Operation

router = Router()


class PullRequest(Request):
    reference: str = Field(min_length=1)
    username: str = ""
    password: str = ""
    plain_http: bool | None = None


class TagRequest(Request):
    reference: str = Field(min_length=1)


@router.get("", response=list[Any])
def image_list(request: HttpRequest) -> list[ImageRow]:
    reader(request)
    return [image_row(i) for i in images()]


@router.post("/pull", response=MADE)
def image_pull(
    request: HttpRequest, body: PullRequest, wait: WaitQuery
) -> Answer[ImageRow | OperationRow]:
    """Pull from a registry; Docker Hub unless the reference names another.

    Credentials are for this pull only; an admin keeps them with the registry, and alone may allow plain
    HTTP for it.
    """
    user, via = operator(request) if body.plain_http is None else admin(request)
    operation = services.image_pull(
        host=current_host(),
        reference=body.reference,
        username=body.username,
        password=body.password,
        plain_http=body.plain_http,
        user=user,
        via=via,
    )
    return answer(wait, operation, lambda: image_made(operation), 201)


@router.post("/starter", response=MADE)
def image_starter(request: HttpRequest, wait: WaitQuery) -> Answer[ImageRow | OperationRow]:
    """Make the starter image of this host's static busybox."""
    user, via = operator(request)
    operation = services.image_starter(host=current_host(), user=user, via=via)
    return answer(wait, operation, lambda: image_made(operation), 201)


@router.post("/import", response=MADE)
def image_import(
    request: HttpRequest,
    wait: WaitQuery,
    archive: Annotated[UploadedFile | None, File()] = None,
    file: Annotated[UploadedFile | None, File()] = None,
    reference: Annotated[str, Form()] = "",
) -> Answer[ImageRow | OperationRow]:
    """Upload a root file system tar, a `docker save` archive or an OCI archive as `archive`."""
    user, via = operator(request)
    upload = archive or file
    if not isinstance(upload, SpooledUpload):
        raise SpecInvalid(
            "archive",
            "There is no archive in the request.",
            hint="Choose a file; scripts send a form with the file in its field `archive`.",
        )
    if reference:
        Reference.parse(reference)
    kept = upload.keep()
    try:
        operation = services.image_import(
            host=current_host(),
            operation_id=upload.upload_id,
            reference=reference,
            filename=str(upload.name)[:200],
            user=user,
            via=via,
        )
    except BaseException:
        kept.unlink(missing_ok=True)
        raise
    return answer(wait, operation, lambda: image_made(operation), 201)


def image_made(operation: Operation) -> ImageRow | OperationRow:
    """The row of the image that an operation has made; the operation's when there is none."""
    operation.refresh_from_db()
    digest = operation.result.get("id")
    image = images().filter(digest=digest).first() if digest else None
    return image_row(image) if image else operation_row(operation)


# Before the routes of one image: a key may hold slashes, and the first route that fits is taken.
@router.post("/{path:key}/tag", response=Any)
def image_tag(request: HttpRequest, key: str, body: TagRequest) -> ImageRow:
    """One more name for the image."""
    operator(request)
    return image_row(
        services.image_tag(image=image_find(current_host(), key), reference=body.reference)
    )


@router.get("/{path:key}/save", response=Any)
async def image_save(request: HttpRequest, key: str) -> Any:
    """The image with all its names as `docker save` writes it, a tar stream; by one of its names, with just that.

    `docker load`, other tools that read OCI archives, and `POST /images/import` take it. Layers are packed anew, so
    digests of what others have packed change. A stream that breaks off has no end in the sense of HTTP.
    """
    image, names = await sync_to_async(_to_save)(request, key)
    messages = stream_client.save_image(image.digest, names)
    await anext(messages)  # what goes wrong at the beginning is still an answer with a number
    await sync_to_async(_note_saved)(request, image)
    answer = StreamingHttpResponse(decoded_blocks(messages), content_type="application/x-tar")
    shown = re.sub(
        r"[^\w.-]+", "_", Reference.parse(names[0]).familiar if names else image.digest[7:19]
    )
    answer["Content-Disposition"] = content_disposition_header(True, f"{shown}.tar") or ""
    return answer


def _to_save(request: HttpRequest, key: str) -> tuple[Image, list[str]]:
    operator(request)
    image = image_find(current_host(), key)
    names = [reference.name for reference in image.references.all()]
    named = _full(key)
    return image, [named] if named in names else names


def _note_saved(request: HttpRequest, image: Image) -> None:
    """An event says who takes it out, before a byte goes."""
    user, via = operator(request)
    services.image_saved(image=image, user=user, via=via)


@router.get("/{path:key}", response=Any)
def image_get(request: HttpRequest, key: str) -> ImageWhole:
    """By id, enough of its digits, or a reference. Values of variables are "•••" for viewers."""
    shown = reads_values(request)
    image = image_find(current_host(), key)
    config = image.config if shown else without_values(image.config)
    return {**image_row(image), "config": config or {}, "history": image.layers}


@router.delete("/{path:key}", response=DONE)
def image_remove(
    request: HttpRequest, key: str, wait: WaitQuery
) -> Answer[ImageRow | OperationRow]:
    """By id: remove the image. By one of several references: take just that name away."""
    user, via = operator(request)
    image = image_find(current_host(), key)
    names = {r.name for r in image.references.all()}
    named = _full(key)
    if named in names and len(names) > 1:
        services.image_untag(image=image, reference=named)
        return Answer(200, image_row(images().get(pk=image.pk)))
    operation = services.image_remove(image=image, user=user, via=via)
    return answer(wait, operation, lambda: image_made(operation))


def _full(key: str) -> str:
    try:
        return Reference.parse(key).full
    except (SpecInvalid, NotFound):
        return ""
