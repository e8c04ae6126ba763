"""Every gRPC option Podium sets, with why; no other module names one.

The spellings matter: gRPC ignores a name it does not know, without a word.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
import grpc.aio

from services.kernel import limits

Dial = Callable[[str], grpc.aio.Channel]
"""Gives a channel to the peer at `host:port`."""
Options = list[tuple[str, int]]

keepalive_ms = 20_000
keepalive_timeout_ms = 5_000
ping_interval_min_ms = 5_000
handshake_timeout_ms = 5_000
streams_max = 1_000
"""Calls open at once on one connection: the bridge holds a watch for each browser on one."""

_BOTH: Options = [
    ("grpc.max_receive_message_length", limits.message_bytes_max),
    ("grpc.max_send_message_length", limits.message_bytes_max),
    # Keepalive needs all three: without ping_timeout a frozen peer, whose kernel still
    # acknowledges, is noticed only after a minute (61.7 s measured, 2.7 s with it).
    ("grpc.keepalive_time_ms", keepalive_ms),
    ("grpc.keepalive_timeout_ms", keepalive_timeout_ms),
    ("grpc.http2.ping_timeout_ms", keepalive_timeout_ms),
    # A stream may be silent for longer than two pings.
    ("grpc.http2.max_pings_without_data", 0),
]


def server_options() -> Options:
    """Return the options of every server."""
    return [
        *_BOTH,
        # A second process on the same port must fail, not share it.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", streams_max),
        # The soft limit alone lets half as much again through: both.
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes_max),
        # The C macro says MIN_RECV_PING; the string does not. Without it the server kills
        # clients that ping, as Podium's do.
        ("grpc.http2.min_ping_interval_without_data_ms", ping_interval_min_ms),
        # A connection that says nothing is closed: the default keeps it for 25 s and more.
        ("grpc.server_handshake_timeout_ms", handshake_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def channel_options() -> Options:
    """Return the options of every channel."""
    return [
        *_BOTH,
        # Trailing headers carry error details, beyond what a server accepts as request headers.
        ("grpc.max_metadata_size", 2 * limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", 2 * limits.metadata_bytes_max),
        ("grpc.keepalive_permit_without_calls", 1),
        # A restarted peer is found again in seconds: the default backs off to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # In truth how long a connection may take to come about: a peer that is far away or busy
        # would be none. As long as a server waits for one.
        ("grpc.min_reconnect_backoff_ms", handshake_timeout_ms),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def dial(address: str) -> grpc.aio.Channel:
    """Return a channel to the peer at `address`; it connects when it is used.

    With several addresses, commas between, it holds on to the first that answers and goes on to
    the next when that is gone.
    """
    target = f"ipv4:{address}" if "," in address else address
    return grpc.aio.insecure_channel(target, options=channel_options())
