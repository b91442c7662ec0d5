"""Where servers are, read from URLs."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery import ConfigError
from natsery._protocol._addresses import Address, discovered_address, read_address, read_addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://example.org:4333", Address("example.org", 4333)),
        ("nats://example.org", Address("example.org")),
        ("nats://example.org:", Address("example.org")),
        ("nats://example.org:4222/", Address("example.org")),
        ("example.org:1", Address("example.org", 1)),
        ("example.org", Address("example.org")),
        (" example.org\n", Address("example.org")),
        ("EXAMPLE.org:65535", Address("example.org", 65535)),
        ("TLS://example.org", Address("example.org", tls=True)),
        ("127.0.0.1", Address("127.0.0.1")),
        ("[::1]:4333", Address("::1", 4333)),
        ("nats://[FE80::1]", Address("fe80::1")),
        ("nats://[FE80::1%Eth0]:5", Address("fe80::1%Eth0", 5)),
        ("nats://[fe80::1%25eth0]", Address("fe80::1%eth0")),
        ("bücher.example:5", Address("xn--bcher-kva.example", 5)),
        ("nats://me:secret@h", Address("h", user="me", password="secret")),
        ("me:secret@h:5", Address("h", 5, user="me", password="secret")),
        ("nats://t0ken@h", Address("h", token="t0ken")),
        ("tls://a%40b:p%3Aw%2F%25%20%C3%A9@h", Address("h", tls=True, user="a@b", password="p:w/% é")),
        ("nats://t%2Cn@[::1]:5", Address("::1", 5, token="t,n")),
        ("nats://me:a@b:c@h", Address("h", user="me", password="a@b:c")),
        ("nats://me:@h", Address("h", user="me", password="")),
        ("nats://:secret@h", Address("h", user="", password="secret")),
        ("nats://me:100%@h", Address("h", user="me", password="100%")),
    ],
)
def test_good_urls_are_read(url, address):
    assert read_address(url) == address


# Each of these holds SECRET where somebody may put a password.
BAD_WITH_SECRETS = [
    "ws://me:SECRET@h",
    "wss://SECRET@h",
    "http://me:SECRET@h",
    "nats+tls://me:SECRET@h",
    "nats://me:SECRET@",
    "nats://me:SECRET@:4222",
    "nats://me:SECRET@h:0",
    "nats://me:SECRET@h:65536",
    "nats://me:SECRET@h:99999",
    "nats://me:SECRET@h:abc",
    "nats://me:SECRET@h:-1",
    "nats://me:SECRET@h:+1",
    "nats://me:SECRET@h:1_0",
    "nats://me:SECRET@h:٣",
    "nats://me:SECRET@h:1:2",
    "nats://me:SECRET@h/path",
    "nats://me:SECRET@h?query",
    "nats://me:SECRET@h#fragment",
    "nats://me:SECRET@h h",
    "nats://me:SECRET@::1",
    "nats://me:SECRET@[::1",
    "nats://me:SECRET@::1]",
    "nats://me:SECRET@[x]",
    "nats://me:SECRET@[::1]x",
    "nats://me:SECRET@x[::1]:5",
    "nats://me:SECRET@[::1]x:5",
    "nats://me:SECRET\0@h",
    "nats://me:SEC\nRET@h",
    "nats://me:SECRET@h\th",
    "nats://me:SECRET@h\x7f",
    "nats://me:SECRET%ff@h",
    "nats://me:SECRET/x@h",
    "nats://me:SECRET#x@h",
    "nats://me:SECRET?x@h",
    "nats://me:x/SECRET@h",
    "nats://me:SECRET://x@h",
    "nats://me:x://SECRET@h",
    "me:SECRET://x@h",
    "nats://me:SECRET℀@h",
    "nats://me:SECRET[@h",
    "nats://h:4222?auth_token=SECRET",
    "nats://h#SECRET",
    "nats://me:SECRET",
    "nats://me:SECRET,x@h",
    "me:SECRET",
    "//me:SECRET@h",
    "nats:///me:SECRET@h",
    "nats://me:SECRET@\ud800",
    "nats://me:SECRET@h%00",
]


@pytest.mark.parametrize("url", BAD_WITH_SECRETS)
def test_bad_urls_are_refused_without_instrumentation_what_may_be_secret(url):
    """An error showed parts of a password with a slash or ``://`` in it, and the query of any URL."""
    with pytest.raises(ConfigError) as caught:
        read_addresses(url)
    assert caught.value.field == "servers"
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.value)
    assert "SEC" not in shown.replace("BAD_WITH_SECRETS", "")
    assert "RET" not in shown.replace("BAD_WITH_SECRETS", "")


@pytest.mark.parametrize(
    "url", ["", " ", "nats://", "://", "://h", ":", ":4222", "nats://:4222", "h\u3000h", "@", "a b"]
)
def test_urls_that_name_no_host_are_refused(url):
    with pytest.raises(ConfigError):
        read_address(url)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".org", ".a", "\ud800"])
def test_names_that_no_resolver_can_be_asked_for_are_refused(host):
    """They raised UnicodeError when the connection was made, which no retry and no caller expects."""
    with pytest.raises(ConfigError):
        read_address(f"nats://{host}:4222")


@pytest.mark.parametrize("host", ["a.b.", "a_b.c", "x" * 63 + ".org", "-a", "fe80::1%eth0"])
def test_unusual_names_are_taken(host):
    assert read_address(f"[{host}]" if ":" in host else host).host == host


@pytest.mark.parametrize("host", ["bücher.example", "例え.テスト", "😀.example"])
def test_international_names_become_what_resolvers_and_certificates_have(host):
    assert read_address(host).host.encode() == host.encode("idna")
    assert read_address(host.upper()) == read_address(host)


@pytest.mark.parametrize(
    "value", [None, 5, b"nats://me:SECRET@h", bytearray(b"SECRET"), {"nats://me:SECRET@h"}, {"nats://SECRET@h": 1}]
)
def test_what_is_no_url_is_refused_without_showing_it(value):
    """A URL given as bytes was shown in the error, its password too."""
    for read, given_value in [(read_addresses, value), (read_addresses, [value]), (read_address, value)]:
        with pytest.raises(ConfigError) as caught:
            read(given_value)
        assert caught.value.field == "servers"
        assert "SECRET" not in str(caught.value) + repr(caught.value)
        assert type(value).__name__ in str(caught.value)


@pytest.mark.parametrize("host", ["\u2024", "a\u2024\u2024b", "\uff0e"])
def test_a_host_of_characters_that_stand_for_dots_is_refused(host):
    """It was taken as the host ``.``, which no URL can name."""
    with pytest.raises(ConfigError):
        read_address(host)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=30), st.text("nats:/@[]%?#.1,h ", max_size=20)))
def test_any_text_is_an_address_or_a_config_error(text):
    try:
        addresses = read_addresses(text)
    except ConfigError:
        return
    for address in addresses:
        assert address.host
        assert 1 <= address.port <= 65535
        assert read_address(str(address)) == Address(address.host, address.port, address.tls)


def test_several_servers_come_from_commas_or_a_sequence_each_once():
    wanted = [Address("a"), Address("b", 5), Address("::1")]
    assert read_addresses("a,nats://b:5, [::1] ,A:4222,tls://a") == wanted
    assert read_addresses(["a", "b:5", "[::1]", "nats://A/"]) == wanted
    assert read_addresses(("a", "b:5", "[::1]:4222", "tls://user:password@a")) == wanted


@pytest.mark.parametrize("servers", ["", ",", "a,", ",a", "a,,b", [], (), [""], ["a,b"], [["a"]], [None]])
def test_lists_with_gaps_are_refused(servers):
    with pytest.raises(ConfigError, match="servers"):
        read_addresses(servers)


def test_addresses_are_shown_without_secrets():
    address = read_address("tls://me:SECRET@[::1]:5")
    assert str(address) == "tls://[::1]:5"
    assert "SECRET" not in repr(address)
    assert "me" not in repr(address)
    assert "SECRET" not in repr(read_address("SECRET@h"))


# What servers tell of one another

ORIGIN = read_address("tls://me:secret@nats.example")


def test_a_discovered_server_is_reached_as_the_one_that_told_of_it():
    found = discovered_address("other.example:4333", ORIGIN)
    assert found == Address("other.example", 4333, tls=True, user="me", password="secret")


@pytest.mark.parametrize("place", ["10.0.0.1:4222", "[fe80::1]:4222"])
def test_a_number_is_verified_by_the_name_that_led_to_it(place):
    assert discovered_address(place, ORIGIN).verify_as == "nats.example"
    assert discovered_address(place, read_address("tls://10.0.0.9")).verify_as is None


def test_the_name_is_kept_from_number_to_number():
    """Servers learnt from a server that was itself known by its number were verified by number, and refused."""
    first = discovered_address("10.0.0.1:4222", ORIGIN)
    second = discovered_address("10.0.0.2:4222", first)
    assert second.verify_as == "nats.example"
    assert discovered_address("other.example", second).verify_as is None


@pytest.mark.parametrize("text", ["", ":4222", "h:0", "h:x", "ws://h", "h/x", "\ud800", "a b"])
def test_what_cannot_be_read_is_no_discovered_server(text):
    assert discovered_address(text, ORIGIN) is None
