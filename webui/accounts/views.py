"""Signing in, and one's own account."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from webui.accounts.models import ApiToken
from webui.core.pages import signed_in


class SignIn(LoginView):
    """The only page that a stranger sees."""

    template_name = "pages/login.html"
    redirect_authenticated_user = True
    next_page = "overview"

    def form_invalid(self, form: Any) -> HttpResponse:
        # 422 rather than 200, so that scripts and password managers see the failure.
        response = super().form_invalid(form)
        response.status_code = 422
        return response


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """Profile, password and API tokens of whoever is signed in."""
    user = signed_in(request)
    form = PasswordChangeForm(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        return redirect(f"{request.path}?changed=1")
    return render(
        request,
        "pages/account.html",
        {
            "form": form,
            "changed": "changed" in request.GET and request.method == "GET",
            "tokens": ApiToken.objects.filter(user=user).order_by("-created_at"),
        },
        status=422 if request.method == "POST" else 200,
    )


@login_required
def token_dialog(request: HttpRequest) -> HttpResponse:
    """The form that makes an API token; the token itself is shown once, by the page's script."""
    return render(request, "dialogs/token_create.html")
