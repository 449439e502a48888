"""Whatever REST is sent, it becomes a specification or a refusal that names a field of the request."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.errors import SpecInvalid
from runtime.model.codec import from_json, to_json
from runtime.model.spec import ContainerSpec
from runtime.model.validate import validate_spec
from webui.containers.building import build_spec
from webui.containers.describing import in_words
from webui.containers.requests import ContainerRequest, LimitsRequest, LogsRequest, MountRequest
from webui.containers.wording import request_words

CONFIG = {"cmd": ["sh"], "env": ["A=1"], "exposed_ports": ["80/tcp"], "volumes": ["/data"]}
# Pieces of what people write, put together at random.
pieces = st.sampled_from(
    ["/dev/sda", "/dev", "/", "..", ":", "=", ",", "10m", "-1", "0", "rw", "ro", "a", "b.c", "net.x",
     "container:", "host", "none", "8080", "80", "/tcp", "[::1]", "10.0.0.1", "type=bind", "source=/a",
     "target=/b", "size=", "mode=", "{", "}", "\n", " ", "#", "\0", "é", "SIGTERM", "nofile=",
     "on-failure:", "c 1:1 rwm", "2MB", "1e9", "nan", "inf", "99999999999999999999"]
)  # fmt: skip
texts = st.lists(pieces, max_size=5).map("".join)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.booleans()
anything = st.recursive(
    texts | numbers | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
lists, objects = st.lists(texts, max_size=3), st.dictionaries(texts, texts | numbers, max_size=3)


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of about the right kind, and some of none."""
    kinds = get_args(annotation) or (annotation,)
    strategies: list[st.SearchStrategy[Any]] = [anything]
    for kind in (annotation, *kinds):
        if get_origin(kind) is list:
            strategies += [lists] * 3
        elif get_origin(kind) is dict:
            strategies += [objects] * 3
        elif kind is str:
            strategies += [texts] * 3
        elif kind in (int, float, bool):
            strategies.append(numbers)
    return st.one_of(strategies)


def model(cls: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {}, optional={name: values(field.annotation) for name, field in cls.model_fields.items()}
    )


NESTED = {"limits": LimitsRequest, "logs": LogsRequest}
FIELDS = {name: values(f.annotation) for name, f in ContainerRequest.model_fields.items()}
FIELDS |= {name: model(cls) | anything for name, cls in NESTED.items()}
FIELDS["mounts"] = st.lists(model(MountRequest) | texts, max_size=3)


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(sorted(FIELDS)).flatmap(lambda n: st.tuples(st.just(n), FIELDS[n])))
def test_any_request_is_a_specification_or_a_refusal(sent: tuple[str, Any]) -> None:
    name, value = sent
    try:
        request = ContainerRequest.model_validate({"image": "x", "command": ["sh"], name: value})
    except ValidationError:
        return
    try:
        with request_words(request):
            spec = build_spec(
                request,
                container_id="0" * 64,
                image="sha256:" + "0" * 64,
                config=CONFIG,
                host_ip="0.0.0.0",
            )
            validate_spec(spec)
    except SpecInvalid as error:
        refused = error.field
    else:
        refused = ""
    if refused:
        assert refused.partition(".")[0].partition("[")[0] in ContainerRequest.model_fields
        return
    assert from_json(ContainerSpec, to_json(spec)) == spec
    assert in_words(to_json(spec), lambda other: other)
