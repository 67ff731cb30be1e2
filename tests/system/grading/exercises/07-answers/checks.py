"""Checks of a tiny exercise that needs no lab: only what the student recorded counts."""

from labkit.notebook.grading.checks import check, expect


@check(title="the sum is right", points=2, hint=["add", "2 + 3 + seed"], cell="sum")
def total(world):
    found = world.answer("sum")
    return expect(found == 5 + world.seed, expected=5 + world.seed, found=found, look="print(sum)")


@check(title="both words are there", points=2, cell="words")
def words(world):
    found = world.answer("words", [])
    yield expect("cat" in found, expected="cat", found=found)
    yield expect("dog" in found, expected="dog", found=found)


@check(title="a secret thing", points=1, hidden=True)
def secret(world):
    return expect(world.answer("sum", 0) > 0, expected="HIDDEN-EXPECTATION", found="nothing")
