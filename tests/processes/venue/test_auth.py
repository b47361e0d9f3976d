"""Signatures against the published and recomputed vectors, and the time window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.venue import auth
from processes.venue.auth import Key, Keys
from processes.venue.errors import VenueError

FUTURES = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
SPOT = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
TAIL = "quantity=1&price=9000&recvWindow=5000&timestamp=1591702613943"
HEAD = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
ED25519_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
ED25519_SIGNATURE = (
    "tuYYP5HsC7Xo8QWXHwy7cDXhlWsjQv2Mx98iN6ZKPVX07h4igY9e4BkdiFgdeb4ZyGOeqh0sHNhXN2MnfIPxBQ=="
)


def code_of(call, *arguments):
    with pytest.raises(VenueError) as error:
        call(*arguments)
    return error.value.code


@pytest.mark.parametrize(
    ("secret", "payload", "signature"),
    [
        (
            FUTURES,
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
            "&recvWindow=5000&timestamp=1591702613943",
            "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
        ),
        (
            FUTURES,
            HEAD + TAIL,
            "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4",
        ),
        (
            SPOT,
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
            "&recvWindow=5000&timestamp=1499827319559",
            "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
        ),
        (
            SPOT,
            "symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96&side=BUY&type=LIMIT"
            "&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
    ],
)
def test_signature_matches_published_vector(secret, payload, signature):
    assert auth.sign(secret.encode(), payload.encode()) == signature
    Key("k", 0, secret).check_signature(payload.encode(), signature.upper())


def test_query_and_body_are_signed_with_nothing_between_them():
    signature = "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4"
    key = Key("k", 0, FUTURES)
    auth.check_signed_form(key, HEAD, f"{TAIL}&signature={signature}")
    auth.check_signed_form(key, f"{HEAD}&signature={signature}", TAIL)
    assert code_of(auth.check_signed_form, key, HEAD + "&", TAIL + f"&signature={signature}") == (
        -1022
    )


def test_websocket_payload_is_sorted():
    params = {
        "symbol": "BTCUSDT",
        "apiKey": "test-key",
        "price": "60000.0",
        "quantity": "0.001",
        "recvWindow": 5000,
        "side": "BUY",
        "timeInForce": "GTX",
        "timestamp": 1702555533821,
        "type": "LIMIT",
        "signature": "left out",
    }
    payload = auth.sorted_payload(params)
    assert payload.startswith(b"apiKey=test-key&price=60000.0&quantity=0.001&recvWindow=5000&side")
    assert auth.sign(b"test-secret", payload) == (
        "2248b8f4910f1c5f81bf4db26422a6a18fbf6437004e27c919ecdcfae3236a3c"
    )


def test_ed25519_logon_vector():
    key = Key("test-key", 0, ed25519_public=bytes.fromhex(ED25519_PUBLIC))
    key.check_signature(b"apiKey=test-key&timestamp=1649729878532", ED25519_SIGNATURE)
    assert code_of(key.check_signature, b"apiKey=test-key&timestamp=1", ED25519_SIGNATURE) == -1022
    assert code_of(key.check_signature, b"x", "not base64!") == -1022


@given(st.binary(max_size=200), st.integers(0, 199), st.integers(1, 255))
def test_any_changed_byte_breaks_the_signature(payload, position, change):
    key = Key("k", 0, "secret")
    signature = auth.sign(b"secret", payload)
    key.check_signature(payload, signature)
    if payload:
        changed = bytearray(payload)
        changed[position % len(payload)] ^= change
        assert code_of(key.check_signature, bytes(changed), signature) == -1022


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"timestamp": "1000000"}, None),
        ({"timestamp": "1000999"}, None),
        ({"timestamp": "1001000"}, -1021),
        ({"timestamp": "995000"}, None),
        ({"timestamp": "994999"}, -1021),
        ({"timestamp": "990000", "recvWindow": "10000"}, None),
        ({"timestamp": "989999", "recvWindow": "10000"}, -1021),
        ({"timestamp": "1000000", "recvWindow": "60001"}, -1130),
        ({"timestamp": "1000000", "recvWindow": "x"}, -1102),
        ({"timestamp": "-1"}, -1102),
        ({"timestamp": "9" * 19}, -1102),
        ({}, -1102),
    ],
)
def test_time_window(params, code):
    if code is None:
        auth.check_time(params, 1_000_000)
    else:
        assert code_of(auth.check_time, params, 1_000_000) == code


def test_unknown_and_malformed_keys():
    keys = Keys([Key("known", 3, "s")])
    assert keys.find("known").account == 3
    assert code_of(keys.find, "other") == -2015
    assert code_of(keys.find, None) == -2014
    assert code_of(keys.find, "bad\nkey") == -2014


def test_form_decoding_keeps_the_first_of_a_name():
    assert auth.parse_form("a=1&b=x%20y+z&a=2&&c") == {"a": "1", "b": "x y z", "c": ""}
    assert auth.split_signature("a=1&signature=ab%3D&b=2") == ("a=1&b=2", "ab=")
