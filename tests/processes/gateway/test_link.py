"""Connecting, backing off, pinging and rotating, in virtual time."""

from processes.gateway.link import LinkEvent

UP, DOWN, TEXT, LOST = LinkEvent.UP, LinkEvent.DOWN, LinkEvent.TEXT, LinkEvent.LOST
URL = "ws://venue/ws"


class Rig:
    def __init__(self, kit, **times):
        self.clock = kit.VirtualClock()
        self.plug = kit.Plug(self.clock, kit.TIMES._replace(**times))
        self.link = self.plug.link
        self.second = kit.SECOND
        self.events = []

    def poll(self):
        found = self.link.poll(self.clock.now)
        self.events += found
        return [event.event for event in found]

    def run(self, seconds, step_ms=10):
        end_ns = self.clock.now + int(seconds * self.second)
        while self.clock.now < end_ns:
            self.poll()
            self.clock.now += step_ms * 1_000_000

    def up(self):
        self.link.set_url(URL, self.clock.now)
        self.poll()
        self.plug.last.open()
        assert self.poll() == [UP]
        self.events.clear()
        return self


def test_a_link_without_a_url_waits(kit):
    rig = Rig(kit)
    rig.run(10)
    assert not rig.plug.sockets and not rig.link.is_up and rig.link.next_timer_ns() == 0


def test_it_connects_tells_and_reads(kit):
    rig = Rig(kit)
    rig.link.set_url(URL, rig.clock.now)
    assert rig.poll() == [] and rig.plug.last.url == URL
    rig.plug.last.open().feed("early")
    assert rig.poll() == [UP, TEXT] and rig.link.is_up and rig.link.number == 1
    rig.plug.last.feed("a")
    rig.plug.last.feed("b")
    assert rig.poll() == [TEXT, TEXT]
    assert [event.text for event in rig.events[1:]] == [b"early", b"a", b"b"]
    assert all(event.ts_recv_ns == rig.clock.now for event in rig.events[1:])


def test_a_lost_socket_is_told_and_replaced_after_a_pause(kit):
    rig = Rig(kit).up()
    rig.plug.last.feed("last words")
    rig.plug.last.break_off()
    assert rig.poll() == [TEXT, DOWN] and not rig.link.is_up
    lost_ns = rig.clock.now
    rig.run(0.2)
    assert len(rig.plug.sockets) == 2
    assert 50 * kit.MS <= rig.plug.last.now_ns - lost_ns <= 110 * kit.MS
    rig.plug.last.open()
    assert rig.poll() == [UP]
    assert [event.number for event in rig.events] == [1, 1, 2]


def test_pauses_double_up_to_the_maximum_with_jitter(kit):
    rig = Rig(kit)
    rig.link.set_url(URL, rig.clock.now)
    pauses = []
    for _ in range(12):
        rig.run(0.02)
        rig.plug.last.break_off()
        rig.poll()
        failed_ns = rig.clock.now
        count = len(rig.plug.sockets)
        while len(rig.plug.sockets) == count:
            rig.run(0.01, step_ms=1)
        pauses.append(rig.plug.last.now_ns - failed_ns)
    full_ns = [min(100 * kit.MS << i, 10 * kit.SECOND) for i in range(12)]
    for pause_ns, whole_ns in zip(pauses, full_ns, strict=True):
        assert whole_ns // 2 <= pause_ns <= whole_ns + 2 * kit.MS
    assert len({pause_ns % (100 * kit.MS) for pause_ns in pauses}) > 3  # not in step
    assert not rig.events


def test_a_steady_connection_forgets_failures(kit):
    rig = Rig(kit).up()
    rig.link.failures = 6
    rig.run(6)
    rig.plug.last.break_off()
    rig.run(0.15)
    assert len(rig.plug.sockets) == 2 and rig.link.failures == 1


def test_an_attempt_that_takes_too_long_is_given_up(kit):
    rig = Rig(kit)
    rig.link.set_url(URL, rig.clock.now)
    rig.run(5.3)
    assert rig.plug.sockets[0].is_closed and len(rig.plug.sockets) == 2


def test_a_silent_socket_is_pinged_and_then_dropped(kit):
    rig = Rig(kit).up()
    rig.run(5.5)
    assert rig.plug.last.pings == 1
    rig.run(5)
    assert rig.plug.last.pings == 2
    rig.run(5)
    assert [event.event for event in rig.events] == [DOWN]


def test_bytes_keep_a_socket_alive(kit):
    rig = Rig(kit).up()
    for _ in range(10):
        rig.plug.last.last_recv_ns = rig.clock.now
        rig.run(4)
    assert not rig.events and rig.plug.last.pings == 0


def test_rotation_opens_the_new_one_before_it_leaves_the_old(kit):
    rig = Rig(kit, rotate_ns=20 * kit.SECOND, idle_ns=10**15).up()
    old = rig.plug.last
    rig.run(20.1)
    assert len(rig.plug.sockets) == 2 and rig.link.number == 1
    new = rig.plug.last.open()
    rig.poll()
    assert rig.link.number == 2 and rig.link.current.socket is new
    old.feed("late")
    new.feed("first")
    rig.run(0.05)
    assert [(event.event, event.number) for event in rig.events] == [(TEXT, 2), (TEXT, 1)]
    assert rig.link.is_up and not old.is_closed
    rig.run(2.1)
    assert old.is_closed and rig.events[-1].event is LOST and rig.events[-1].number == 1
    assert DOWN not in [event.event for event in rig.events]
    assert not rig.link.leaving


def test_a_socket_is_not_left_while_bytes_of_it_are_unsent(kit):
    rig = Rig(kit, rotate_ns=20 * kit.SECOND, idle_ns=10**15).up()
    old = rig.plug.last
    old.unsent = True
    rig.run(20.1)
    rig.plug.last.open().feed("early")
    assert rig.poll() == [TEXT] and rig.link.number == 1  # read, so that nothing is lost
    old.unsent = False
    rig.poll()
    assert rig.link.number == 2 and [held.socket for held in rig.link.leaving] == [old]


def test_a_loss_with_bytes_unsent_lets_the_new_one_take_over(kit):
    rig = Rig(kit, rotate_ns=20 * kit.SECOND, idle_ns=10**15).up()
    old = rig.plug.last
    old.unsent = True
    rig.run(20.1)
    rig.plug.last.open()
    rig.poll()
    old.break_off()
    assert rig.poll() == [DOWN, UP] and rig.link.number == 2


def test_a_failed_rotation_keeps_the_old_one_and_tries_again(kit):
    rig = Rig(kit, rotate_ns=20 * kit.SECOND, idle_ns=10**15).up()
    rig.run(20.1)
    rig.plug.last.break_off()
    rig.run(0.3)
    assert rig.link.number == 1 and not rig.events and len(rig.plug.sockets) >= 3


def test_a_loss_while_rotating_waits_for_the_new_one(kit):
    rig = Rig(kit, rotate_ns=20 * kit.SECOND, idle_ns=10**15).up()
    rig.run(20.1)
    rig.plug.sockets[0].break_off()
    rig.run(0.5)
    assert len(rig.plug.sockets) == 2
    rig.plug.last.open()
    rig.run(0.02)
    assert [event.event for event in rig.events] == [DOWN, UP]


def test_another_url_moves_the_link(kit):
    rig = Rig(kit).up()
    rig.link.set_url("ws://venue/other", rig.clock.now)
    rig.link.set_url("ws://venue/other", rig.clock.now)
    rig.poll()
    assert [socket.url for socket in rig.plug.sockets] == [URL, "ws://venue/other"]
    rig.link.set_url("ws://venue/third", rig.clock.now)
    rig.run(0.02)
    assert rig.plug.sockets[1].is_closed and rig.plug.last.url == "ws://venue/third"
    rig.plug.last.open()
    rig.run(3)
    assert rig.plug.sockets[0].is_closed and rig.link.number == 3


def test_no_url_means_no_reconnect(kit):
    rig = Rig(kit).up()
    rig.link.set_url("", rig.clock.now)
    rig.link.drop("key expired", rig.clock.now)
    rig.run(30)
    assert len(rig.plug.sockets) == 1 and not rig.link.is_up
