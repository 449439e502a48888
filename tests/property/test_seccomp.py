"""Any profile, compiled, says what its rules say when they are read one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.kernel.seccomp_program import Condition, Profile, Rule, assemble
from runtime.kernel.syscall_table import X86_64
from runtime.kernel.syscall_table_32 import I386
from tests.support import bpf

ALLOW, DEFAULT = 0x7FFF0000, 0x00050001
_OPS = ["EQ", "NE", "LT", "LE", "GE", "GT", "MASKED_EQ"]
# Where comparisons of two 32-bit halves go wrong.
_EDGES = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
words = st.one_of(st.sampled_from(_EDGES), st.integers(0, 2**64 - 1))
conditions = st.builds(
    Condition,
    index=st.integers(0, 5),
    op=st.sampled_from([f"SCMP_CMP_{op}" for op in _OPS]),
    value=words,
    mask=words,
)
rules = st.builds(
    Rule,
    action=st.sampled_from([ALLOW, 0x00050002, 0x80000000]),
    conditions=st.lists(conditions, max_size=3).map(tuple),
)
profiles = st.dictionaries(
    st.sampled_from(sorted(X86_64.keys() & I386.keys())),
    st.lists(rules, min_size=1, max_size=4),
    max_size=40,
).map(lambda r: Profile(DEFAULT, r, frozenset(["SCMP_ARCH_X86"])))


def holds(condition: Condition, args: tuple[int, ...]) -> bool:
    value, wanted = args[condition.index], condition.value
    return {
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_MASKED_EQ": value & condition.mask == wanted,
    }[condition.op]


def expected(profile: Profile, name: str, args: tuple[int, ...]) -> int:
    for rule in profile.rules.get(name, []):
        if all(holds(c, args) for c in rule.conditions):
            return rule.action
    return profile.default


@given(profiles, st.data())
def test_the_program_says_what_the_rules_say(profile: Profile, data: st.DataObject) -> None:
    program = assemble(profile, "x86_64")
    names = st.sampled_from([*profile.rules, "read", "mount"])
    # Values that appear in the rules meet their comparisons' edges.
    seen = [c.value for rs in profile.rules.values() for r in rs for c in r.conditions]
    values = st.one_of(words, st.sampled_from(seen)) if seen else words
    for _ in range(5):
        name, args = data.draw(names), data.draw(st.tuples(*[values] * 6))
        for arch, numbers in ((bpf.X86_64, X86_64), (bpf.I386, I386)):
            said = bpf.evaluate(program, numbers[name], *args, arch=arch)
            assert said == expected(profile, name, args)
