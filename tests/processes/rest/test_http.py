"""The HTTP shell against a real server on the loopback, plain and TLS, and against broken ones."""

import gc
import selectors
import socket
import ssl
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from common import clock
from common.binance import Outcome
from common.errors import ConfigError
from processes.rest import http
from processes.rest.calls import Wire

from support import wait_until

KEYED = {"X-MBX-APIKEY": "test-key"}


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, str | None]] = []

    def answer(self, status, body, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do(self):
        self.seen.append((self.command, self.path, self.headers.get("X-MBX-APIKEY")))
        path = self.path.partition("?")[0]
        if path == "/limited":
            headers = [("X-MBX-USED-WEIGHT-1M", "17"), ("Retry-After", "3"), ("X-Other", "x")]
            self.answer(429, b'{"code":-1003,"msg":"Too many requests."}', headers)
        elif path == "/page":
            self.answer(502, b"<html>Bad Gateway</html>")
        elif path == "/hang":
            self.server.hang.wait(10)
            self.close_connection = True
        elif path == "/cut":
            self.close_connection = True
        elif path == "/half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            self.close_connection = True
        elif path == "/garbage":
            self.wfile.write(b"\x00\x01 not http\r\n\r\n")
            self.close_connection = True
        elif path == "/long":
            self.answer(200, b"x" * 9_000_000)
        elif path == "/last":
            self.answer(200, b"{}", [("Connection", "close")])
            self.close_connection = True
        else:
            self.answer(200, b'{"path":"%s"}' % path.encode())

    do_GET = do_POST = do_PUT = do_DELETE = do

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.hang = threading.Event()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def handle_error(self, request, client_address):
        pass

    def stop(self):
        self.hang.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


@pytest.fixture
def server():
    Handler.seen = []
    running = Server()
    yield running
    running.stop()


def new_shell(port, scheme="http", ca_file="", timeout_ms=3000, host="127.0.0.1"):
    return http.HttpShell(f"{scheme}://{host}:{port}", ca_file, timeout_ms, clock.now_ns)


@pytest.fixture
def shell(server):
    running = new_shell(server.server_port)
    yield running
    running.close()


def ask(shell, *targets, method="GET", headers=None):
    """Send requests at once; return their answers in order."""
    answers = {}
    for number, target in enumerate(targets):
        shell.start(number, Wire(method, target, headers or {}))

    def is_complete():
        answers.update(shell.poll())
        return len(answers) == len(targets)

    wait_until(is_complete, f"answers to {targets}")
    return [answers[number] for number in range(len(targets))]


def test_a_good_answer_is_read_whole_and_stamped(shell, server):
    before_ns = clock.now_ns()
    (answer,) = ask(shell, "/fapi/v1/time")
    assert answer.outcome is Outcome.OK and answer.status == 200
    assert answer.body == b'{"path":"/fapi/v1/time"}'
    assert before_ns <= answer.ts_sent_ns < answer.ts_recv_ns <= clock.now_ns()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_while_connecting_does_not_hang(scheme):
    """The other side accepts and says nothing; TLS waits for its hello."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        shell = new_shell(silent.getsockname()[1], scheme, timeout_ms=30_000)
        for number in range(4):
            shell.start(number, Wire("DELETE", "/fapi/v1/allOpenOrders", {}))
        for _ in range(20):
            shell.poll()
        began_ns = clock.now_ns()
        shell.close()
        assert clock.now_ns() - began_ns < 3_000_000_000
    with warnings.catch_warnings():  # TLS would say goodbye for 30 s; the process ends instead
        warnings.simplefilter("ignore", ResourceWarning)
        del shell
        gc.collect()


def test_the_target_goes_out_byte_for_byte(shell):
    target = "/fapi/v1/order?symbol=A%2BB&x=%EF%BC%91&signature=ab"
    ask(shell, target, method="POST", headers=KEYED)
    assert Handler.seen == [("POST", target, "test-key")]
    ask(shell, "/x", method="DELETE")
    assert Handler.seen[1] == ("DELETE", "/x", None)


def test_limit_headers_and_error_bodies_are_read(shell):
    (answer,) = ask(shell, "/limited")
    assert (answer.outcome, answer.status, answer.code) == (Outcome.RATE, 429, -1003)
    assert answer.headers == {"x-mbx-used-weight-1m": "17", "retry-after": "3"}
    (page,) = ask(shell, "/page")
    assert (page.outcome, page.status, page.code) == (Outcome.UNKNOWN, 502, 0)
    assert "Bad Gateway" in page.message


@pytest.mark.parametrize("target", ["/cut", "/half", "/garbage", "/long"])
def test_an_answer_that_breaks_off_is_unknown(shell, target):
    (answer,) = ask(shell, target)
    assert answer.outcome is Outcome.UNKNOWN and answer.ts_sent_ns > 0
    (after,) = ask(shell, "/again")
    assert after.is_ok


def test_no_answer_in_time_is_unknown(server):
    shell = new_shell(server.server_port, timeout_ms=150)
    started_ns = clock.now_ns()
    (answer,) = ask(shell, "/hang")
    assert answer.outcome is Outcome.UNKNOWN and answer.status == 0
    assert clock.now_ns() - started_ns < 3_000_000_000
    shell.close()


def test_nobody_listening_means_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as idle:
        port = idle.getsockname()[1]
    shell = new_shell(port)
    (answer,) = ask(shell, "/x")
    assert answer.outcome is Outcome.FAILED and answer.ts_sent_ns == 0
    shell.close()


def test_requests_run_side_by_side(shell, server):
    shell.start(99, Wire("GET", "/hang", {}))
    answers = ask(shell, *[f"/{i}" for i in range(20)])
    assert [answer.body for answer in answers] == [b'{"path":"/%d"}' % i for i in range(20)]
    server.hang.set()


def test_the_descriptor_says_when_there_is_something_to_do(shell):
    ask(shell, "/one")
    wait_until(lambda: not shell.tasks, "request done")
    ((fd, _mask),) = shell.fds()
    with selectors.DefaultSelector() as waiter:
        waiter.register(fd, selectors.EVENT_READ)
        assert waiter.select(0) == [] and shell.next_timer_ns() == 0
        shell.start(1, Wire("GET", "/hang", {}))
        shell.poll()
        assert shell.next_timer_ns() > 0


def test_a_connection_that_the_venue_closed_does_not_keep_the_descriptor_ready(shell, server):
    ask(shell, "/one")
    server.stop()
    ((fd, _mask),) = shell.fds()
    with selectors.DefaultSelector() as waiter:
        waiter.register(fd, selectors.EVENT_READ)

        def is_quiet():
            shell.poll()
            return waiter.select(0) == []

        wait_until(is_quiet, "descriptor quiet")


def test_close_gives_up_what_is_running(server):
    shell = new_shell(server.server_port)
    shell.start(1, Wire("GET", "/hang", {}))
    for _ in range(5):
        shell.poll()
    shell.close()
    assert shell.loop.is_closed() and not shell.tasks


@pytest.fixture
def authority(tmp_path):
    made = trustme.CA()
    path = tmp_path / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, str(path)


def tls_server(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert(*names).configure_cert(context)
    return Server(context)


def test_tls_is_verified(authority, tmp_path):
    good, other_host = tls_server(authority, "127.0.0.1"), tls_server(authority, "venue.example")
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    try:
        shell = new_shell(good.server_port, "https", authority[1])
        assert ask(shell, "/x")[0].is_ok
        shell.close()
        for server, ca_file in ((other_host, authority[1]), (good, str(stranger)), (good, "")):
            shell = new_shell(server.server_port, "https", ca_file)
            (answer,) = ask(shell, "/x")
            assert answer.outcome is Outcome.FAILED and answer.ts_sent_ns == 0
            assert "CERTIFICATE_VERIFY_FAILED" in answer.message
            shell.close()
    finally:
        good.stop()
        other_host.stop()


def test_a_bad_authority_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="not a file"):
        http.new_ssl_context(str(tmp_path / "absent.pem"))
    (tmp_path / "bad.pem").write_text("not a certificate")
    with pytest.raises(ConfigError, match="expected a PEM certificate"):
        http.new_ssl_context(str(tmp_path / "bad.pem"))


def test_an_unexpected_error_is_not_swallowed(shell, monkeypatch):
    async def broken(wire, ts_sent_ns):
        raise ZeroDivisionError

    monkeypatch.setattr(shell, "exchange", broken)
    shell.start(1, Wire("GET", "/x", {}))
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: bool(shell.poll()), "the error")
