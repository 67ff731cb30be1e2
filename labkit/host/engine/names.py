"""Container names: their grammar, and random ones of the form adjective_surname.

The word lists are our own; the surnames are of people who made computing what it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from labkit.base.errors import InvalidParameter

__all__ = ["check_name", "random_name"]

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")

_ADJECTIVES_TEXT = """
able airy amber ample ardent artful astute avid balmy benign blithe bold brave breezy bright brisk
candid careful cheery chipper civil clever cordial cosy crisp curious dapper daring deft devout
diligent eager earnest elated exact fair fearless fluent fond frank fresh frugal gallant game
genial gifted glad gleeful graceful grand hale hardy hearty honest humble ideal jaunty jolly
jovial keen kind lively loyal lucid lucky mellow merry mighty mindful modest nimble noble patient
peppy placid plucky polite prompt proper proud quick quiet radiant ready robust rosy sage serene
sharp silent sincere sleek sly snug sober spry stable steady sturdy sunny supple sure swift tame
tender thrifty tidy tireless tranquil trim trusty upbeat valiant vivid warm wary wise witty zesty
"""
_ADJECTIVES = tuple(_ADJECTIVES_TEXT.split())

_SURNAMES_TEXT = """
allen antonelli backus bartik berners bernstein bjarnason blum boole borg bouman brooks caceres
cerf chomsky church clarke cocke codd conway corbato dahl davies deering diffie dijkstra easley
eckert edison engelbart feinler floyd forsythe gates goldberg goldwasser gosling gray hamilton
hamming hellman hoare holberton hollerith hopper huffman iverson jennings joy kahn karp kay keller
kernighan kildall kilby kleene knuth lamport lampson lauterbach leibniz liskov lovelace mauchly
mccarthy mcilroy meltzer merkle metcalfe milner minsky moore naur neumann newell noether nygaard
pascal perlis perlman postel rabin ritchie rivest samuel scott shamir shannon simon snyder spence
stallman steele stroustrup sutherland tarjan thompson torvalds turing ullman valiant weizenbaum
wilkes wilkinson wing wirth worsley yao zuse
"""
_SURNAMES = tuple(_SURNAMES_TEXT.split())


def check_name(name: str) -> str:
    """The name without a leading slash; InvalidParameter with Docker's sentence otherwise."""
    if not _NAME.match(name):
        raise InvalidParameter(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            hint="use at least two letters, digits, dots, dashes or underscores",
        )
    return name.removeprefix("/")


def random_name(is_taken: Callable[[str], bool]) -> str:
    """A free name such as `brisk_hopper`; after six clashes a digit is put behind it."""
    for attempt in range(100):
        name = f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_SURNAMES)}"
        if attempt > 5:
            name += str(secrets.randbelow(10 if attempt < 20 else 100_000))
        if not is_taken(name):
            return name
    raise AssertionError("a hundred random names were all taken")
