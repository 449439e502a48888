"""What `docker commit --change` takes: instructions of a Dockerfile, each refusal with its field."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.errors import SpecInvalid
from runtime.model.image import ImageChanges
from runtime.model.image_changes import parse_image_changes

CONFIG = {"env": ["PATH=/bin", "A=1"], "working_dir": "/srv", "shell": ["/bin/ash", "-c"]}


def changed(*lines: str, **base: Any) -> ImageChanges:
    return parse_image_changes(lines, ImageChanges(**base), CONFIG)


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ('CMD ["a", "b c"]', "cmd", ("a", "b c")),
        ("cmd a $A", "cmd", ("/bin/ash", "-c", "a $A")),
        ("CMD []", "cmd", ()),
        ('ENTRYPOINT ["/run"]', "entrypoint", ("/run",)),
        ('SHELL ["/bin/sh", "-ec"]', "shell", ("/bin/sh", "-ec")),
        ("ENV B=2 C='$A' D=\"$A and ${PATH}\"", "env", ("B=2", "C=$A", "D=1 and /bin")),
        ("ENV PATH=/opt:$PATH", "env", ("PATH=/opt:/bin",)),
        ("ENV OLD the old way", "env", ("OLD=the old way",)),
        (r"ENV B=a\ b\$A", "env", ("B=a b$A",)),
        ("ENV B=${NO:-none} C=${A:+yes}", "env", ("B=none", "C=yes")),
        ("EXPOSE 80 53/udp 8000-8001", "exposed_ports", ("80/tcp", "53/udp", "8000/tcp", "8001/tcp")),
        ('LABEL by=me "two words"=yes', "labels", {"by": "me", "two words": "yes"}),
        ("USER 33:34", "user", "33:34"),
        ("VOLUME /a /b", "volumes", ("/a", "/b")),
        ('VOLUME ["/with space"]', "volumes", ("/with space",)),
        ("WORKDIR app/../lib", "working_dir", "/srv/lib"),
        ("WORKDIR /x/", "working_dir", "/x"),
        ("STOPSIGNAL quit", "stop_signal", "quit"),
        ("ONBUILD RUN make", "onbuild", ("RUN make",)),
        ("HEALTHCHECK NONE", "healthcheck", {"Test": ["NONE"]}),
        (
            "HEALTHCHECK --interval=5s --retries=2 CMD wget -q localhost",
            "healthcheck",
            {"Interval": 5 * 10**9, "Retries": 2, "Test": ["CMD-SHELL", "wget -q localhost"]},
        ),
        ('HEALTHCHECK CMD ["true"]', "healthcheck", {"Test": ["CMD", "true"]}),
    ],
)  # fmt: skip
def test_an_instruction_changes_its_part(line: str, field: str, value: Any) -> None:
    assert getattr(changed(line), field) == value


@pytest.mark.parametrize(
    "line",
    [
        "RUN make", "FROM x", "nonsense", "", "CMD", "CMD ['a']", "ENV", "ENV A", "ENV A='b", "ENV =b",
        "LABEL a=1 b", "EXPOSE 8080:80", "EXPOSE http", "EXPOSE 70000", "USER a b", "VOLUME data", "VOLUME /",
        'VOLUME ["a"]', "STOPSIGNAL 99", "STOPSIGNAL SIGNOPE", "ONBUILD ONBUILD RUN x", "ONBUILD FROM x",
        "HEALTHCHECK CMD", "HEALTHCHECK --often CMD true", "HEALTHCHECK --interval=soon CMD true",
        "HEALTHCHECK true", "SHELL bash", "SHELL []", "CMD [1]", "ENV A=\0",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_by_its_place(line: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        changed("USER app", line)
    assert caught.value.field == "changes[1]"
    assert caught.value.message.startswith("changes[1]: ")


def test_a_new_entrypoint_drops_a_command_that_was_not_given_with_it() -> None:
    assert changed('ENTRYPOINT ["e"]', cmd=("old",)).cmd is None
    for order in (('CMD ["c"]', 'ENTRYPOINT ["e"]'), ('ENTRYPOINT ["e"]', 'CMD ["c"]')):
        made = changed(*order, cmd=("old",))
        assert (made.entrypoint, made.cmd) == (("e",), ("c",))


def test_lines_of_a_text_are_instructions() -> None:
    text = "# a comment\n\n  USER app\nENV A=1 \\\n  B=2\r\nWORKDIR\t/x\n"
    made = parse_image_changes(text, ImageChanges(), CONFIG)
    assert (made.user, made.env, made.working_dir) == ("app", ("A=1", "B=2"), "/x")


def test_what_holds_already_is_added_to() -> None:
    base = {"env": ("A=2",), "exposed_ports": ("80/tcp",), "labels": {"a": "1"}}
    made = changed("ENV B=$A", "EXPOSE 80 81", "LABEL a=2", **base)
    assert made.env == ("A=2", "B=2")
    assert made.exposed_ports == ("80/tcp", "81/tcp")
    assert made.labels == {"a": "2"}
