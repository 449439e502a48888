"""Whatever a commit is sent as changes, it becomes changes that can be kept, or a refusal that names its place."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import SpecInvalid
from runtime.images.config import derived, to_record
from runtime.model.codec import from_json, to_json
from runtime.model.image import ImageChanges
from runtime.model.image_changes import parse_image_changes

WORDS = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL", "STOPSIGNAL", "USER",
    "VOLUME", "WORKDIR", "RUN", "cmd",
)  # fmt: skip
pieces = st.sampled_from(
    [" ", "=", '"', "'", "\\", "$", "${", "}", "$A", "${A:-x}", "${A:+", "[", "]", '["a"]', ",", "a", "A", "/", "..",
     "/x", "80", "/udp", "-", "1-3", "99999", "SIGTERM", "NONE", "CMD", "--interval=", "--retries=", "5s", "\n", "\t",
     "\0", "é", "\ud800", "²", ":"]
)  # fmt: skip
lines = st.builds("{} {}".format, st.sampled_from(WORDS), st.lists(pieces, max_size=8).map("".join))
DIGEST = "sha256:" + "0" * 64
IMAGE = {"rootfs": {"type": "layers", "diff_ids": []}, "config": {"Env": ["A=1"], "Cmd": ["sh"]}}


@settings(max_examples=1500, deadline=None)
@given(st.lists(lines, max_size=3) | lines)
def test_any_text_is_changes_or_a_refusal(sent: list[str] | str) -> None:
    config = {"env": ["A=1"], "working_dir": "/srv"}
    field = ""
    try:
        made = parse_image_changes(sent, ImageChanges(), config)
    except SpecInvalid as error:
        field = error.field
    if field:
        assert re.fullmatch(r"changes\[\d\]", field)
        return
    assert from_json(ImageChanges, to_json(made)) == made
    raw = json.dumps(derived(IMAGE, DIGEST, made, "")).encode()
    record = to_record(raw, sizes=[0])
    assert "\\u0000" not in raw.decode()
    if made.cmd is not None:
        assert record.config.cmd == made.cmd
    assert record.config.working_dir == (made.working_dir or "")
