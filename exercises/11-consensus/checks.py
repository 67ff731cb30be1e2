"""What must hold when the exercise of chapter 11 is done: asked of the managers and the answers."""

from labkit.notebook.grading.checks import check, expect

FORETOLD = {"leads": "one of the three", "term": "higher", "entry": "thrown away"}
CULPRIT, STEP = 4, 507
RULE = "one vote in each term"


def same(given, wanted):
    """Whether an answer is the wanted one, however it is written."""
    return str(given).strip().lower() == str(wanted).lower()


@check(
    title="Level 1: you foretold the partition",
    points=3,
    cell="foretell",
    hint=[
        "five managers decide by three",
        "section 7 of the chapter: %lab view raft minority-leader",
    ],
)
def foretold(world):
    for key, wanted in FORETOLD.items():
        given = world.answer(key)
        yield expect(
            same(given, wanted),
            expected=f"what happens ({key})",
            found=given,
            look="%lab view raft minority-leader",
        )


@check(
    title="Level 1: and proved it",
    points=4,
    cell="prove",
    hint=[
        "rows = %lab raft says who leads",
        "%lab chaos partition A,B cuts A and B off from everybody else",
        "wait until %lab raft shows a leader among the three",
    ],
)
def proved(world):
    managers = [one for one in world.raft() if "role" in one]
    cut = {(wire["from"], wire["to"]) for wire in world.chaos()["wires"] if wire["cut"]}
    names = {one["name"] for one in managers if one["up"]}
    groups = sides(names, cut)
    yield expect(
        sorted(map(len, groups)) == [2, 3],
        expected="five running managers, two of them cut off from the other three",
        found=" | ".join(", ".join(sorted(group)) for group in groups),
        look="%lab chaos ls",
    )
    few, many = min(groups, key=len), max(groups, key=len)
    leading = {one["name"] for one in managers if one["role"] == "leader" and one["up"]}
    yield expect(
        len(leading) == 1 and leading <= many and len(many) == 3,
        expected="one leader, among the three",
        found=", ".join(sorted(leading)) or "nobody leads",
        look="%lab raft",
    )
    # Whoever led has voted for itself; in a minority its term and its vote stay as they were.
    now = max(one["term"] for one in managers)
    deposed = {
        one["name"]
        for one in managers
        if one["name"] in few and one["vote"] == one["id"] and one["term"] < now
    }
    yield expect(
        deposed and len(few) == 2,
        expected="the leader of before among the two",
        found=f"the two are {', '.join(sorted(few))}" if len(few) == 2 else "no two cut off",
        look="%lab raft",
    )


def sides(names, cut):
    """Groups of managers that still hear one another."""
    groups = []
    for name in sorted(names):
        for group in groups:
            if all((name, other) not in cut and (other, name) not in cut for other in group):
                group.add(name)
                break
        else:
            groups.append({name})
    return groups


@check(
    title="Level 2: you found the server with the mistake",
    points=4,
    cell="find",
    hint=[
        "both leaders lead in the same term: count the votes that each was given",
        "“vote” among the changes says whom a server votes for; who changes it within a term?",
    ],
)
def found(world):
    wanted = {"culprit": CULPRIT, "broken at": STEP, "rule": RULE}
    for key, right in wanted.items():
        given = world.answer(key)
        yield expect(
            same(given, right),
            expected=f"the right {key}",
            found=given,
            look="%lab view raft mystery.jsonl",
        )


@check(
    title="Level 3: managers in three zones",
    points=3,
    cell="zones",
    hint=[
        "what is left after the largest zone has failed must be a majority of all",
        "the managers that are down still count among all",
    ],
)
def zones(world):
    five = world.answer("five")
    fine = isinstance(five, list) and len(five) == 3 and all(isinstance(n, int) for n in five)
    yield expect(
        fine and sum(five) == 5 and min(five) >= 0 and 5 - max(five) >= 3,
        expected="five managers in three zones, of which any may fail",
        found=five,
        look="a majority of five is three",
    )
    for key, right in {"ways": 3, "smallest": 9, "two zones": "none"}.items():
        given = world.answer(key)
        yield expect(
            same(given, right), expected=f"the right number ({key})", found=given, look="section 8"
        )
