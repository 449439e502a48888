"""Images and registries in Django's admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest

from runtime.errors import SpecInvalid
from webui.core.admin import ModelAdmin, ReadOnlyAdmin, ReadOnlyInline, ask_for_each
from webui.images.models import Image, Reference, Registry
from webui.images.services import image_remove, registry_name, registry_save


class ReferenceInline(ReadOnlyInline):
    model = Reference
    fields = ["name"]


@admin.register(Image)
class ImageAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "names", "size", "architecture", "added_at"]
    list_filter = ["architecture", "host"]
    search_fields = ["digest", "references__name"]
    inlines = [ReferenceInline]
    actions = ["remove"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        return super().get_queryset(request).prefetch_related("references")

    def names(self, image: Image) -> str:
        return ", ".join(reference.name for reference in image.references.all())

    @admin.action(description="Remove (unused ones)", permissions=["act"])
    def remove(self, request: HttpRequest, rows: QuerySet[Image]) -> None:
        ask_for_each(
            request,
            rows.select_related("host"),
            lambda image, user: image_remove(image=image, user=user, via="admin"),
        )


@admin.register(Reference)
class ReferenceAdmin(ReadOnlyAdmin):
    list_display = ["name", "image", "host", "updated_at"]
    search_fields = ["name", "image__digest"]


class RegistryForm(forms.ModelForm):  # type: ignore[type-arg] # generic for the type checker only
    password = forms.CharField(
        required=False,
        widget=forms.PasswordInput,
        help_text="Kept encrypted and never shown. Empty leaves the one that is kept.",
    )

    class Meta:
        model = Registry
        fields = ["hostname", "username", "plain_http"]
        labels = {"hostname": "Registry", "username": "User name", "plain_http": "Plain HTTP"}
        help_texts = {
            "hostname": "As in references, with its port if it has one: registry.example:5000. docker.io is Docker Hub.",
            "plain_http": "Ask it without TLS: anybody on the way can read and change what comes.",
        }

    def clean_hostname(self) -> str:
        try:
            return registry_name(self.cleaned_data["hostname"])
        except SpecInvalid as error:
            raise ValidationError(f"{error.message} {error.hint}") from error


@admin.register(Registry)
class RegistryAdmin(ModelAdmin):
    """Settings, not facts: these are edited here."""

    form = RegistryForm
    list_display = ["hostname", "username", "plain_http"]

    def save_model(self, request: HttpRequest, obj: Registry, form: Any, change: bool) -> None:
        if change and "hostname" in form.changed_data:
            super().save_model(request, obj, form, change)
        saved = registry_save(
            hostname=obj.hostname,
            username=obj.username,
            password=form.cleaned_data["password"],
            plain_http=obj.plain_http,
        )
        obj.pk = saved.pk
