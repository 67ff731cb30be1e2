"""The paper is a test file: each test cites the rule it checks.

Sections are those of Ongaro's dissertation, "Consensus: Bridging Theory and Practice" (2014).
Servers are driven by hand (raft_kit.py): no simulation, no chance.
"""

from __future__ import annotations

import pytest

from labkit.base.errors import InvalidParameter
from labkit.cluster.raft import (
    BadMessage,
    ChangeInProgress,
    Config,
    EntryKind,
    InvariantViolated,
    NotLeader,
    Snapshot,
    TransferInProgress,
)
from labkit.cluster.raft.progress import Flow
from labkit.cluster.raft.reads import UNCONFIRMED
from labkit.cluster.raft.types import (
    Append,
    AppendReply,
    InstallSnapshot,
    ReadRequest,
    ReadResponse,
    Role,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from tests.sim.raft_kit import Hand, command, entries_of, pass_on

# -- 3.3, 3.4: terms and elections ---------------------------------------------------------------


def heartbeat(term: int, sender: int = 2, commit: int = 0, round: int = 1) -> Append:  # noqa: A002
    return Append(term, sender, 0, 0, (), commit, round)


def test_3_3_a_higher_term_makes_everybody_a_follower() -> None:
    for role in (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER):
        hand = Hand(pre_vote=False)
        if role is Role.CANDIDATE:
            hand.time_out()
        elif role is Role.LEADER:
            hand.lead()
        assert hand.node.role is role
        hand.receive(AppendReply(9, 2, False, 0, 0, 0, 0))
        assert (hand.node.role, hand.node.term) == (Role.FOLLOWER, 9)


def test_3_3_a_message_of_an_old_term_is_refused_and_changes_nothing() -> None:
    hand = Hand(term=5, log=(1, 2))
    answer = hand.receive(Append(4, 2, 2, 2, entries_of(4, start=3), 3, 1))
    assert answer == [AppendReply(5, 1, False, 0, 0, 0, 0)]
    assert hand.terms() == [1, 2]
    assert hand.node.commit == 0


def test_3_4_servers_start_as_followers_and_stay_so_while_a_leader_speaks() -> None:
    hand = Hand()
    for _ in range(50):
        hand.ticks(5)
        hand.receive(heartbeat(1))
    assert (hand.node.role, hand.node.term, hand.node.leader) == (Role.FOLLOWER, 1, 2)


def test_3_4_silence_for_an_election_timeout_makes_a_candidate_that_votes_for_itself() -> None:
    hand = Hand(pre_vote=False)
    requests = hand.time_out()
    assert (hand.node.role, hand.node.term, hand.node.vote) == (Role.CANDIDATE, 1, 1)
    assert requests == [Vote(1, 1, 0, 0, False, False)] * 2


def test_3_4_a_majority_of_votes_wins_and_the_winner_speaks_at_once() -> None:
    hand = Hand(voters=range(1, 6), pre_vote=False)
    hand.time_out()
    hand.receive(VoteReply(1, 2, True, False))
    assert hand.node.role is Role.CANDIDATE
    spoken = hand.receive(VoteReply(1, 3, True, False))
    assert hand.node.role is Role.LEADER
    assert [type(message) for message in spoken] == [Append] * 4


def test_3_4_the_same_vote_twice_counts_once() -> None:
    hand = Hand(voters=range(1, 6), pre_vote=False)
    hand.time_out()
    for _ in range(3):
        hand.receive(VoteReply(1, 2, True, False))
    assert hand.node.role is Role.CANDIDATE


def test_3_4_one_vote_a_term_first_come_first_served() -> None:
    hand = Hand()
    assert hand.asked(1, 2, 0, 0).granted
    assert not hand.asked(1, 3, 0, 0).granted
    assert hand.asked(1, 2, 0, 0).granted, "the answer was lost: the same candidate asks again"
    assert hand.asked(2, 3, 0, 0).granted, "a new term is a new vote"


def test_3_4_the_vote_is_on_disk_before_the_answer_leaves() -> None:
    hand = Hand()
    hand.node.receive(Vote(1, 2, 0, 0, False, False))
    effects = hand.take()
    assert effects.hard_state == (1, 2)
    assert effects.must_sync
    again = Hand(term=1, vote=2)
    assert not again.asked(1, 3, 0, 0).granted, "remembered through a restart"


def test_3_4_a_candidate_that_hears_a_leader_of_its_term_follows() -> None:
    hand = Hand(pre_vote=False)
    hand.time_out()
    hand.receive(heartbeat(1))
    assert (hand.node.role, hand.node.leader, hand.node.vote) == (Role.FOLLOWER, 2, 1)


def test_3_4_a_split_vote_ends_with_a_new_timeout_and_a_new_term() -> None:
    hand = Hand(voters=range(1, 6), pre_vote=False)
    hand.time_out()
    hand.receive(VoteReply(1, 2, True, False))
    hand.receive(VoteReply(1, 3, False, False))
    assert hand.node.role is Role.CANDIDATE
    hand.time_out()
    assert (hand.node.role, hand.node.term) == (Role.CANDIDATE, 2)


def test_3_4_an_election_that_cannot_be_won_any_more_is_given_up() -> None:
    hand = Hand(pre_vote=False)
    hand.time_out()
    hand.receive(VoteReply(1, 2, False, False))
    hand.receive(VoteReply(1, 3, False, False))
    assert hand.node.role is Role.FOLLOWER


def test_3_4_who_has_not_answered_a_candidate_is_asked_again() -> None:
    hand = Hand(voters=range(1, 6), pre_vote=False)
    first = hand.time_out()
    hand.receive(VoteReply(1, 2, True, False))
    hand.receive(VoteReply(1, 3, False, False))
    again = hand.ticks(2)
    assert again == first[2:]


def test_3_4_election_timeouts_lie_between_one_and_two_election_ticks() -> None:
    drawn = {Hand(dice=dice).node.election_timeout for dice in range(10)}
    assert drawn == set(range(10, 20))


def test_3_4_only_a_granted_vote_or_a_leaders_word_holds_back_the_own_election() -> None:
    hand = Hand(log=(1, 1), term=1)
    hand.ticks(7)
    assert not hand.asked(2, 3, 0, 0).granted
    assert hand.node.elapsed == 7, "a candidate that cannot win does not delay who can"
    assert hand.asked(3, 3, 2, 1).granted
    assert hand.node.elapsed == 0


def test_3_4_a_leader_speaks_every_heartbeat() -> None:
    hand = Hand(heartbeat_ticks=3)
    hand.lead()
    assert hand.ticks(2) == []
    assert [type(message) for message in hand.ticks(1)] == [Append] * 2


# -- 3.5: log replication ------------------------------------------------------------------------


def test_3_5_a_command_is_appended_stored_and_sent_to_everybody() -> None:
    hand = Hand()
    hand.lead()
    hand.accept(2, 1)
    hand.accept(3, 1)
    assert hand.node.propose("x") == 2
    effects = hand.take()
    assert [entry.data for entry in effects.entries] == ["x"]
    assert [(to, m.entries[-1].data) for to, m in effects.messages] == [(2, "x"), (3, "x")]
    assert effects.committed == ()


def test_3_5_an_entry_is_committed_by_a_majority_and_followers_learn_it() -> None:
    hands = {number: Hand(number) for number in (1, 2, 3)}
    leader = hands[1]
    leader.lead()
    leader.node.propose("x")
    leader.accept(2, 2)
    assert leader.node.commit == 2
    follower = hands[2]
    follower.receive(Append(leader.node.term, 1, 0, 0, leader.node.log.slice(1, 3), 0, 1))
    assert follower.node.commit == 0
    follower.receive(Append(leader.node.term, 1, 2, leader.node.term, (), 2, 2))
    assert follower.node.commit == 2


def test_3_5_a_follower_never_commits_what_the_message_does_not_vouch_for() -> None:
    """Figure 3.1, AppendEntries 5: min(leaderCommit, index of last new entry)."""
    hand = Hand(log=(1, 1, 1), term=1)
    hand.receive(Append(2, 2, 1, 1, (), 3, 1))
    assert hand.node.commit == 1, "entries 2 and 3 may differ from the leader's"


def test_3_5_committed_entries_are_handed_out_once_and_in_order() -> None:
    hand = Hand()
    hand.lead()
    hand.node.propose("a", "b")
    effects = hand.accept(2, 3)
    assert [entry.index for entry in effects.committed] == [1, 2, 3]
    assert hand.accept(3, 3).committed == ()


def test_3_5_entries_whose_predecessor_does_not_match_are_refused() -> None:
    hand = Hand(log=(1, 1), term=1)
    for message in (
        Append(2, 2, 3, 1, entries_of(2, start=4), 0, 1),
        Append(2, 2, 2, 2, entries_of(2, start=3), 0, 1),
    ):
        (answer,) = hand.receive(message)
        assert not answer.ok
    assert hand.terms() == [1, 1]


def test_3_5_conflicting_entries_are_replaced_with_all_that_follow() -> None:
    hand = Hand(log=(1, 1, 2, 2), term=2)
    (answer,) = hand.receive(Append(3, 2, 2, 1, entries_of(3, start=3), 0, 1))
    assert (answer.ok, answer.index) == (True, 3)
    assert hand.terms() == [1, 1, 3]


def test_3_5_an_old_message_does_not_cut_off_what_came_after_it() -> None:
    hand = Hand(log=(1, 1, 1), term=1)
    (answer,) = hand.receive(Append(1, 2, 0, 0, entries_of(1), 0, 1))
    assert (answer.ok, answer.index) == (True, 1)
    assert hand.terms() == [1, 1, 1]


@pytest.mark.parametrize(
    "log",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids="abcdef",
)
def test_3_5_the_logs_of_figure_3_6_are_repaired(log: tuple[int, ...]) -> None:
    leader = Hand(1, (1, 2), log=(1, 1, 1, 4, 4, 5, 5, 6, 6, 6), term=7)
    follower = Hand(2, (1, 2), log=log, term=7)
    opening = leader.lead()
    hands = {1: leader, 2: follower}
    for message in opening:
        follower.node.receive(message)
    pass_on(hands)
    assert follower.terms() == leader.terms() == [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8]


def test_3_5_the_hint_skips_a_whole_diverging_term_at_a_time() -> None:
    leader = Hand(1, (1, 2), log=(1,) * 3 + (6,) * 20, term=6)
    follower = Hand(2, (1, 2), log=(1,) * 3 + (2,) * 30, term=6)
    for message in leader.lead():
        follower.node.receive(message)
    seen = pass_on({1: leader, 2: follower})
    refusals = [m for _, m in seen if isinstance(m, AppendReply) and not m.ok]
    assert len(refusals) <= 2
    assert follower.terms() == leader.terms()


def test_3_5_a_leader_goes_on_sending_to_who_does_not_answer() -> None:
    hand = Hand(check_quorum=False)
    hand.lead()
    hand.node.propose("x")
    hand.sent()
    for _ in range(5):
        again = [m for m in hand.ticks(1) if m.entries]
        assert [m.entries[-1].data for m in again] == ["x", "x"]


# -- 3.6: safety ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(3, 2, True), (4, 2, True), (2, 2, False), (1, 3, True), (9, 1, False)],
)
def test_3_6_1_a_vote_only_for_a_log_at_least_as_up_to_date(
    last_index: int, last_term: int, granted: bool
) -> None:
    hand = Hand(log=(1, 1, 2), term=3)
    assert hand.asked(4, 2, last_index, last_term).granted is granted


def test_3_6_2_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """Figure 3.7: entry 2 is on a majority and may still be overwritten."""
    hand = Hand(voters=range(1, 6), log=(1, 2), term=3)
    hand.lead()
    hand.accept(2, 2)
    hand.accept(3, 2)
    assert hand.node.commit == 0
    hand.accept(2, 3)
    hand.accept(3, 3)
    assert hand.node.commit == 3, "its own entry commits, and with it all before"


def test_3_6_a_leader_never_overwrites_its_own_log() -> None:
    hand = Hand(log=(1, 1), term=1)
    hand.lead()
    with pytest.raises(InvariantViolated, match="both lead term 2"):
        hand.receive(Append(2, 2, 0, 0, entries_of(2), 0, 1))
    assert hand.terms() == [1, 1, 2]


def test_3_6_a_committed_entry_is_never_replaced() -> None:
    hand = Hand(log=(1, 1), term=1)
    hand.receive(Append(1, 2, 2, 1, (), 2, 1))
    hand.receive(Append(2, 3, 0, 0, entries_of(2, 2, 2), 0, 1))
    assert hand.terms()[:2] == [1, 1]


def test_3_8_term_vote_and_log_are_what_a_restart_needs() -> None:
    hand = Hand(log=(1, 2, 2), term=4, vote=3)
    node = hand.node
    assert (node.role, node.term, node.vote, node.commit) == (Role.FOLLOWER, 4, 3, 0)
    assert hand.terms() == [1, 2, 2]


def test_3_8_a_disk_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="entry of term 5 but says term 3"):
        Hand(log=(1, 5), term=3)
    with pytest.raises(InvalidParameter, match="cannot hold entry 2"):
        Hand(log=(3, 1), term=3)


# -- 3.10: leadership transfer -------------------------------------------------------------------


def test_3_10_the_target_is_brought_up_to_date_before_it_is_asked() -> None:
    hand = Hand()
    hand.lead()
    hand.node.propose("x")
    hand.node.transfer(2)
    assert hand.sent(TimeoutNow) == []
    effects = hand.accept(2, 2)
    assert [to for to, m in effects.messages if isinstance(m, TimeoutNow)] == [2]


def test_3_10_nothing_new_is_accepted_meanwhile_and_a_failed_transfer_ends() -> None:
    hand = Hand(check_quorum=False)
    hand.lead()
    hand.accept(2, 1)
    hand.node.transfer(2)
    assert len(hand.sent(TimeoutNow)) == 1
    with pytest.raises(TransferInProgress):
        hand.node.propose("x")
    hand.ticks(10)
    assert hand.node.propose("x") == 2


def test_3_10_the_target_stands_at_once_and_voters_who_hear_the_leader_still_vote() -> None:
    target = Hand(2)
    target.receive(heartbeat(1, sender=1))
    requests = target.receive(TimeoutNow(1, 1))
    assert target.node.role is Role.CANDIDATE, "no pre-vote: the leader has decided"
    assert all(vote.transfer for vote in requests)
    voter = Hand(3)
    voter.receive(heartbeat(1, sender=1))
    assert voter.receive(requests[0]) == [VoteReply(2, 3, True, False)]


def test_3_10_only_a_voter_can_take_over() -> None:
    hand = Hand(learners=(4,))
    hand.lead()
    for stranger in (4, 9):
        with pytest.raises(InvalidParameter, match="not a voter"):
            hand.node.transfer(stranger)


# -- 4: membership -------------------------------------------------------------------------------


def settled(voters: tuple[int, ...] = (1, 2, 3), **rest: object) -> Hand:
    """A leader whose first entry is committed."""
    hand = Hand(voters=voters, **rest)  # type: ignore[arg-type]
    hand.lead()
    for voter in voters:
        if voter != 1:
            hand.accept(voter, hand.node.log.last_index)
    assert hand.node.commit == hand.node.log.last_index
    return hand


def test_4_1_a_configuration_counts_from_the_moment_it_is_in_the_log() -> None:
    hand = Hand(2)
    config = Config(frozenset((1, 2, 3, 4)), frozenset((1, 2, 3)))
    entry = command(1, 1)._replace(kind=EntryKind.CONFIG, data=config)
    hand.receive(Append(1, 1, 0, 0, (entry,), 0, 1))
    assert hand.node.config == config
    hand.receive(Append(2, 3, 0, 0, entries_of(2), 0, 1))
    assert hand.node.config == Config(frozenset((1, 2, 3))), "overwritten, so it never was"


def test_4_1_one_change_at_a_time() -> None:
    hand = settled()
    hand.node.change_members((1, 2, 3, 4))
    with pytest.raises(ChangeInProgress, match="still under way"):
        hand.node.change_members((1, 2, 3, 5))


def test_4_1_no_change_before_the_leader_has_committed_in_its_own_term() -> None:
    hand = Hand()
    hand.lead()
    with pytest.raises(ChangeInProgress, match="not committed an entry of its term"):
        hand.node.change_members((1, 2))


def test_4_2_1_a_learner_receives_the_log_and_decides_nothing() -> None:
    hand = settled()
    index = hand.node.change_members((1, 2, 3), learners=(4,))
    assert not hand.node.config.is_joint
    assert [to for to, m in hand.take().messages if isinstance(m, Append)] == [2, 3, 4]
    hand.accept(4, index)
    assert hand.node.commit == index - 1
    hand.accept(2, index)
    assert hand.node.commit == index
    learner = Hand(4, learners=(4,))
    assert learner.ticks(60) == []
    assert learner.node.role is Role.FOLLOWER


def test_4_2_2_a_leader_that_removes_itself_leads_until_the_change_is_committed() -> None:
    hand = settled()
    joint = hand.node.change_members((2, 3))
    hand.accept(2, joint)
    hand.accept(3, joint)
    assert hand.node.config == Config(frozenset((2, 3)))
    hand.accept(2, joint + 1)
    assert hand.node.role is Role.LEADER, "its own copy does not count any more"
    hand.accept(3, joint + 1)
    assert hand.node.role is Role.FOLLOWER


def test_4_2_2_a_server_on_its_way_out_still_stands_and_does_not_count_itself() -> None:
    """Figure 4.6: nobody else may hold what is committed."""
    hand = Hand(1, (1, 3), pre_vote=False)
    joint = Config(frozenset((2, 3)), frozenset((1, 3)))
    entries = tuple(
        command(index, 1)._replace(kind=EntryKind.CONFIG, data=config)
        for index, config in ((1, joint), (2, Config(frozenset((2, 3)))))
    )
    hand.receive(Append(1, 3, 0, 0, entries, 1, 1))
    hand.time_out()
    assert hand.node.role is Role.CANDIDATE
    hand.receive(VoteReply(2, 2, True, False))
    assert hand.node.role is Role.CANDIDATE, "one of two, its own does not count"
    hand.receive(VoteReply(2, 3, True, False))
    assert hand.node.role is Role.LEADER
    hand.accept(2, 3)
    hand.accept(3, 3)
    assert hand.node.role is Role.FOLLOWER, "committed: now it goes"
    assert hand.ticks(60) == []


def test_4_2_3_a_server_that_hears_a_leader_ignores_candidates() -> None:
    hand = Hand()
    hand.receive(heartbeat(1))
    hand.ticks(9)
    assert hand.asked(5, 3, 9, 4) is None
    assert hand.node.term == 1, "a removed server's higher term does not spread"
    hand.ticks(1)
    assert hand.asked(5, 3, 9, 4).granted


def test_4_3_a_joint_configuration_needs_both_majorities_to_commit() -> None:
    hand = settled()
    joint = hand.node.change_members((3, 4, 5))
    assert hand.node.config == Config(frozenset((3, 4, 5)), frozenset((1, 2, 3)))
    hand.accept(4, joint)
    hand.accept(5, joint)
    assert hand.node.commit < joint, "all of the new, one of the old"
    hand.accept(2, joint)
    assert hand.node.commit == joint
    assert hand.node.config == Config(frozenset((3, 4, 5))), "the final one follows by itself"


def test_4_3_a_joint_configuration_needs_both_majorities_to_elect() -> None:
    hand = Hand(1, (1, 2, 3), pre_vote=False)
    config = Config(frozenset((3, 4, 5)), frozenset((1, 2, 3)))
    entry = command(1, 1)._replace(kind=EntryKind.CONFIG, data=config)
    hand.receive(Append(1, 2, 0, 0, (entry,), 0, 1))
    hand.time_out()
    for voter in (4, 5):
        hand.receive(VoteReply(2, voter, True, False))
    assert hand.node.role is Role.CANDIDATE
    hand.receive(VoteReply(2, 2, True, False))
    assert hand.node.role is Role.LEADER


def test_4_3_a_new_leader_finishes_a_change_that_it_finds() -> None:
    hand = Hand(1, (1, 2, 3))
    config = Config(frozenset((1, 2)), frozenset((1, 2, 3)))
    entry = command(1, 1)._replace(kind=EntryKind.CONFIG, data=config)
    hand.receive(Append(1, 3, 0, 0, (entry,), 0, 1))
    hand.lead()
    hand.accept(2, 2)
    assert hand.node.config == Config(frozenset((1, 2)))


@pytest.mark.parametrize(
    ("voters", "learners", "words"),
    [((), (), "at least one voter"), ((1, 2), (2,), "not both"), ((0, 1), (), "start at 1")],
)
def test_4_3_impossible_configurations_are_refused(
    voters: tuple[int, ...], learners: tuple[int, ...], words: str
) -> None:
    hand = settled()
    with pytest.raises(InvalidParameter, match=words):
        hand.node.change_members(voters, learners)


# -- 5: snapshots --------------------------------------------------------------------------------


def compacted(data: bytes = b"0123456789", **options: object) -> Hand:
    """A leader of 1, 2 whose log begins after index 3."""
    hand = settled((1, 2), log=(1, 1, 1), term=1, **options)
    node = hand.node
    node.compact(Snapshot(3, 1, node.config, data))
    return hand


def test_5_1_only_what_is_applied_is_compacted() -> None:
    hand = settled()
    index = hand.node.propose("x")
    with pytest.raises(InvalidParameter, match="applied is"):
        hand.node.compact(Snapshot(index, hand.node.term, hand.node.config, b""))


def test_5_1_a_snapshot_keeps_the_last_index_term_and_configuration() -> None:
    hand = compacted()
    log = hand.node.log
    assert (log.snapshot_index, log.snapshot_term, log.first_index) == (3, 1, 4)
    assert log.term_at(3) == 1
    assert log.term_at(2) is None


def test_5_3_who_needs_entries_that_are_gone_gets_the_snapshot_in_chunks() -> None:
    leader = compacted(snapshot_chunk_bytes=4, check_quorum=False)
    follower = Hand(2, (1, 2), check_quorum=False)
    node = leader.node
    node.peers[2].become_probe()
    node.peers[2].next = 2
    node.peers[2].match = 0
    for message in leader.ticks(1):
        follower.node.receive(message)
    seen = pass_on({1: leader, 2: follower})
    chunks = [m for _, m in seen if isinstance(m, InstallSnapshot)]
    assert [(chunk.offset, chunk.data, chunk.done) for chunk in chunks[-2:]] == [
        (4, b"4567", False),
        (8, b"89", True),
    ]
    assert follower.node.snapshot is not None
    assert follower.node.snapshot.data == b"0123456789"
    assert (follower.node.log.last_index, follower.terms()) == (4, [2])
    assert node.peers[2].flow is Flow.REPLICATE


def install(index: int, term: int, data: bytes = b"s", **words: object) -> InstallSnapshot:
    config = Config(frozenset((1, 2, 3)))
    message = InstallSnapshot(5, 2, index, term, config, 0, data, True, 1)
    return message._replace(**words)


def test_5_3_a_snapshot_replaces_the_log_and_moves_the_commit_index() -> None:
    hand = Hand(log=(1, 1), term=1)
    hand.node.receive(install(7, 4))
    effects = hand.take()
    assert effects.snapshot is not None
    assert effects.snapshot.index == 7
    assert (hand.node.commit, hand.node.log.last_index, hand.terms()) == (7, 7, [])


def test_5_3_what_follows_a_snapshot_that_the_log_agrees_with_stays() -> None:
    hand = Hand(log=(1, 2, 2), term=2)
    hand.receive(install(2, 2))
    assert hand.terms() == [2]
    assert hand.node.log.last_index == 3


def test_5_3_an_old_snapshot_is_answered_and_ignored() -> None:
    hand = Hand(log=(1, 1, 1), term=1)
    hand.receive(Append(1, 2, 3, 1, (), 3, 1))
    (answer,) = hand.receive(install(2, 1))
    assert (answer.ok, answer.index) == (True, 3)
    assert hand.node.log.snapshot_index == 0


def test_5_3_a_chunk_that_comes_twice_or_too_early_is_not_used() -> None:
    hand = Hand()
    first = install(7, 4, b"ab", done=False)
    assert hand.receive(first) == [SnapshotReply(5, 1, 7, 2, False, 1)]
    assert hand.receive(first) == [SnapshotReply(5, 1, 7, 2, False, 1)]
    assert hand.receive(install(7, 4, b"ef", offset=4)) == [SnapshotReply(5, 1, 7, 2, False, 1)]
    hand.receive(install(7, 4, b"cd", offset=2))
    assert hand.node.snapshot is not None
    assert hand.node.snapshot.data == b"abcd"


# -- 6.2, 6.4: clients ---------------------------------------------------------------------------


def test_6_2_a_leader_that_hears_from_no_majority_steps_down() -> None:
    hand = settled((1, 2, 3, 4, 5))
    hand.ticks(10)
    for _ in range(3):
        hand.accept(2, 1)
        hand.accept(3, 1)
        hand.ticks(10)
        assert hand.node.role is Role.LEADER
    hand.accept(2, 1)
    hand.ticks(10)
    assert (hand.node.role, hand.node.leader) == (Role.FOLLOWER, 0)


def test_6_2_a_follower_refuses_and_says_who_leads() -> None:
    hand = Hand()
    hand.receive(heartbeat(1))
    with pytest.raises(NotLeader, match="node 2 does") as refused:
        hand.node.propose("x")
    assert refused.value.leader == 2
    assert refused.value.definite


def test_6_4_a_new_leader_waits_for_its_first_entry_before_it_serves_reads() -> None:
    hand = Hand(log=(1,), term=1)
    hand.lead()
    hand.node.read("r")
    assert hand.take().reads == []
    hand.accept(2, 2, round=1)
    assert hand.take().reads == [], "committed, but no heartbeat since the read began"
    assert [(r.context, r.index) for r in hand.accept(2, 2).reads] == [("r", 2)]


def test_6_4_a_read_needs_a_majority_that_answers_a_later_heartbeat() -> None:
    hand = settled((1, 2, 3, 4, 5))
    before = hand.node.round
    hand.node.read("r")
    assert len(hand.sent(Append)) == 4
    assert hand.accept(2, 1, round=before).reads == []
    assert hand.accept(3, 1, round=before).reads == []
    assert hand.accept(2, 1).reads == []
    assert [(r.context, r.index) for r in hand.accept(3, 1).reads] == [("r", 1)]


def test_6_4_a_deposed_leader_confirms_nothing() -> None:
    hand = settled()
    hand.node.read("r")
    hand.node.receive(heartbeat(9))
    assert [(r.context, r.index) for r in hand.take().reads] == [("r", UNCONFIRMED)]


def test_6_4_a_follower_asks_its_leader_for_the_index() -> None:
    follower = Hand(2)
    follower.receive(heartbeat(2, sender=1))
    follower.node.read("r")
    (request,) = follower.sent(ReadRequest)
    leader = settled()
    leader.receive(request._replace(term=leader.node.term))
    effects = leader.accept(3, 1)
    assert [(to, m.index) for to, m in effects.messages if isinstance(m, ReadResponse)] == [(2, 1)]


def test_6_4_alone_in_its_cluster_a_leader_needs_nobodys_word() -> None:
    hand = Hand(voters=(1,))
    hand.lead()
    hand.take()
    hand.node.read("r")
    assert [r.context for r in hand.take().reads] == ["r"]


def test_6_4_a_leader_about_to_leave_a_cluster_of_one_other_is_not_alone() -> None:
    hand = settled((1, 2))
    joint = hand.node.change_members((2,))
    hand.accept(2, joint)
    assert hand.node.config.voters == {2}
    hand.node.read("r")
    assert hand.take().reads == []


def test_6_4_1_within_a_lease_reads_need_no_messages_and_after_it_they_do() -> None:
    hand = settled(lease_ticks=8)
    hand.ticks(1)
    hand.accept(2, 1)
    hand.ticks(6)
    hand.node.read("a")
    effects = hand.take()
    assert [r.context for r in effects.reads] == ["a"]
    assert effects.messages == []
    hand.ticks(2)
    hand.node.read("b")
    assert hand.take().reads == []


def test_6_4_1_a_transfer_ends_the_lease_for_the_rest_of_the_term() -> None:
    hand = settled(lease_ticks=8)
    hand.ticks(1)
    hand.accept(2, 1)
    hand.node.transfer(2)
    hand.ticks(10)
    hand.accept(2, 1)
    hand.accept(3, 1)
    hand.node.read("r")
    assert hand.take().reads == [], "that message may still arrive"


def test_6_4_1_a_server_that_restarts_keeps_the_promise_it_may_have_made() -> None:
    hand = Hand(term=3, lease_ticks=8)
    assert hand.asked(4, 2, 0, 0) is None
    hand.ticks(10)
    assert hand.asked(4, 2, 0, 0).granted


def test_6_4_1_a_lease_runs_out_while_the_process_stands_still() -> None:
    hand = settled(lease_ticks=8)
    hand.ticks(1)
    hand.accept(2, 1)
    hand.node.slept(20)
    hand.node.read("r")
    assert hand.take().reads == []


def test_6_4_1_a_lease_needs_check_quorum_and_must_end_before_an_election() -> None:
    with pytest.raises(InvalidParameter, match="lease_ticks"):
        Hand(lease_ticks=8, check_quorum=False)
    with pytest.raises(InvalidParameter, match="lease_ticks"):
        Hand(lease_ticks=10)


# -- 9.6: pre-vote -------------------------------------------------------------------------------


def test_9_6_who_cannot_win_does_not_raise_its_term() -> None:
    hand = Hand(term=3)
    requests = hand.time_out()
    assert (hand.node.role, hand.node.term) == (Role.PRE_CANDIDATE, 3)
    assert requests == [Vote(4, 1, 0, 0, True, False)] * 2
    for _ in range(5):
        hand.time_out()
    assert hand.node.term == 3


def test_9_6_a_promise_from_a_majority_begins_the_real_election() -> None:
    hand = Hand(term=3)
    hand.time_out()
    hand.receive(VoteReply(4, 2, True, True))
    assert (hand.node.role, hand.node.term) == (Role.CANDIDATE, 4)


def test_9_6_a_promise_binds_nobody() -> None:
    hand = Hand(term=3)
    assert hand.asked(4, 2, 0, 0, pre=True).granted
    assert hand.asked(4, 3, 0, 0, pre=True).granted
    assert (hand.node.term, hand.node.vote) == (3, 0)


def test_9_6_of_two_who_ask_at_the_same_moment_one_yields() -> None:
    low, high = Hand(1), Hand(2)
    low.time_out()
    high.time_out()
    asked_by_low = Vote(1, 1, 0, 0, True, False)
    asked_by_high = asked_by_low._replace(sender=2)
    assert high.receive(asked_by_low) == [VoteReply(0, 2, False, True)]
    assert low.receive(asked_by_high) == [VoteReply(1, 1, True, True)]
    assert (low.node.role, high.node.role) == (Role.FOLLOWER, Role.PRE_CANDIDATE)


def test_9_6_who_hears_a_leader_promises_nothing() -> None:
    hand = Hand()
    hand.receive(heartbeat(1))
    assert hand.asked(2, 3, 9, 1, pre=True) is None


def test_9_6_a_server_that_was_away_comes_back_without_an_election() -> None:
    away = Hand(3)
    away.receive(heartbeat(1))
    away.ticks(200)
    away.receive(heartbeat(1))
    assert (away.node.role, away.node.term, away.node.leader) == (Role.FOLLOWER, 1, 2)


# -- 10.2.1: pipelining --------------------------------------------------------------------------


def test_10_2_1_a_leader_sends_ahead_of_the_answers_up_to_a_bound() -> None:
    hand = settled((1, 2), entries_per_message_max=1, inflight_max=3)
    for number in range(5):
        hand.node.propose(number)
    ahead = [m.entries[0].data for m in hand.sent(Append) if m.entries]
    assert ahead == [0, 1, 2]
    more = [m.entries[0].data for _, m in hand.accept(2, 2).messages if m.entries]
    assert more == [3]


def test_10_2_1_after_a_loss_it_finds_the_place_again() -> None:
    leader = settled((1, 2), entries_per_message_max=1)
    follower = Hand(2, (1, 2), log=(2,), term=2)
    for number in range(3):
        leader.node.propose(number)
    lost, *rest = leader.sent(Append)
    assert lost.entries
    for message in rest:
        follower.node.receive(message)
    pass_on({1: leader, 2: follower})
    assert follower.terms() == leader.terms()


def test_10_2_1_the_leaders_own_disk_is_written_with_the_first_message() -> None:
    hand = settled()
    hand.node.propose("x")
    effects = hand.take()
    assert effects.must_sync, "the messages of this batch wait for it"
    assert effects.messages


# -- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "what?",
        Vote(1, 0, 0, 0, False, False),
        Vote(1, 1, 0, 0, False, False),
        Vote(-1, 2, 0, 0, False, False),
        Append(9, 2, 0, 0, entries_of(1, start=2), 0, 1),
        Append(9, 2, 0, 0, entries_of(2, 1), 0, 1),
        Append(9, 2, 0, 0, entries_of(10), 0, 1),
    ],
)
def test_a_message_that_no_server_sends_is_refused_and_changes_nothing(message: object) -> None:
    hand = Hand(log=(1, 1), term=1)
    with pytest.raises(BadMessage):
        hand.node.receive(message)  # type: ignore[arg-type]
    assert (hand.node.term, hand.terms(), hand.node.role) == (1, [1, 1], Role.FOLLOWER)


def test_a_leader_refuses_answers_to_what_it_never_said() -> None:
    hand = settled()
    for answer in (
        AppendReply(1, 2, True, 99, 0, 0, 0),
        AppendReply(1, 2, True, 1, 0, 0, 99),
        SnapshotReply(1, 2, 1, -3, False, 0),
    ):
        with pytest.raises(BadMessage):
            hand.node.receive(answer._replace(term=hand.node.term))
    hand.receive(AppendReply(hand.node.term, 77, True, 1, 0, 0, 0))
    assert 77 not in hand.node.peers


def test_a_follower_with_an_older_disk_disturbs_nobody() -> None:
    """A restored backup: it has promised entry 1 and does not hold it. Others go on."""
    hand = settled()
    hand.receive(AppendReply(hand.node.term, 2, False, 1, 0, 0, hand.node.round))
    index = hand.node.propose("x")
    hand.accept(3, index)
    assert hand.node.commit == index
