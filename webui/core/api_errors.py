"""What is refused before REST's own handlers see it, in the form of every other error."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse

PREFIX = "/api/v1/"
_JSON = "application/json"


class ApiErrors:
    """Middleware: below /api/v1/ an error is {code, message, extra}, also Django's own.

    Those are an unknown URL, a method that a URL does not have, and what Django refuses by itself, as a
    Host header that is not ours. Headers stay, as Allow must.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        ours = f"{request.path}/".startswith(PREFIX)
        if not ours or response.status_code < 400 or response.headers.get("Content-Type") is None:
            return response
        if response.headers["Content-Type"].startswith(_JSON):
            return response
        return _in_our_form(request, response)


def _in_our_form(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    allowed = response.headers.get("Allow", "")
    code, message, hint = {
        403: ("forbidden", "This request is not allowed.", ""),
        404: (
            "not_found",
            f"There is no {request.path} here.",
            "GET /api/v1/openapi.json lists every URL.",
        ),
        405: (
            "method_not_allowed",
            f"{request.path} does not take {request.method}.",
            f"It takes {allowed}.",
        ),
        413: ("too_large", "The request is too large.", ""),
    }.get(response.status_code, ("bad_request", "The request makes no sense.", ""))
    if response.status_code >= 500:
        code, message, hint = (
            "internal",
            "Slipway made a mistake.",
            "The web process's log says more.",
        )
    answer = JsonResponse(
        {"code": code, "message": message, "extra": {"hint": hint} if hint else {}},
        status=response.status_code,
    )
    for name, value in response.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            answer.headers[name] = value
    answer.cookies = response.cookies
    return answer
