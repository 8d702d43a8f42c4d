"""What the MQTT scripts share: arguments, topics, and messages that are waited for."""

import json
import threading
import time

from common import TIMEOUT, arguments

VERSIONS = ("3.1.1", "5")


def mqtt_arguments():
    """The doors. Those of TLS come together or not at all; then its checks are left out."""
    options = arguments(
        ("--mqtt", {"type": address, "help": "host:port of the plain MQTT door"}),
        ("--mqtts", {"type": address, "help": "host:port of the MQTT door with TLS"}),
        ("--ca", {"help": "certificate of the authority of both sides"}),
        ("--certificate", {"help": "certificate of the device"}),
        ("--key", {"help": "its private key"}),
        ("--thing", {"help": "the device that the certificate is for"}),
    )
    tls = (options.mqtts, options.ca, options.certificate, options.key, options.thing)
    assert all(tls) or not any(tls), "--mqtts --ca --certificate --key --thing: all or none"
    assert options.mqtt or options.mqtts, "no MQTT door: --mqtt or --mqtts"
    return options


def address(text):
    """host:port as a pair."""
    host, port = text.rsplit(":", 1)
    return host, int(port)


def base(thing, shadow=None):
    """What the topics of a shadow begin with."""
    classic = f"$aws/things/{thing}/shadow"
    return f"{classic}/name/{shadow}" if shadow else classic


def each(cases, checks, title):
    """Every check once for every case, each under a name of its own."""

    def bind(check, case):
        def bound():
            check(case)

        bound.__name__ = f"{check.__name__}, {title(case)}"
        return bound

    return [bind(check, case) for case in cases for check in checks]


class Message:
    """One message as it came."""

    def __init__(self, topic, payload, qos=None, properties=None):
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.properties = properties

    @property
    def json(self):
        return json.loads(self.payload)

    def __repr__(self):
        return f"{self.topic} {self.payload!r}"


class Inbox:
    """Keeps what comes until it is asked for. Filled by one thread, asked by another."""

    def __init__(self):
        self.kept = []
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            self.kept.append(item)
            self.changed.notify_all()

    def take(self, what, accept):
        """The first item that is accepted, in at most `TIMEOUT` seconds. Others stay."""
        end = time.monotonic() + TIMEOUT
        with self.changed:
            while True:
                for place, item in enumerate(self.kept):
                    if accept(item):
                        return self.kept.pop(place)
                rest = end - time.monotonic()
                if rest <= 0:
                    raise AssertionError(f"no {what} within {TIMEOUT} s; there is {self.kept}")
                self.changed.wait(rest)

    def message(self, topic, accept=lambda message: True):
        """The first message of this topic."""
        return self.take(topic, lambda item: item.topic == topic and accept(item))

    def none(self, topic):
        """There must be no message of this topic so far."""
        with self.changed:
            found = [item for item in self.kept if item.topic == topic]
        assert not found, f"unexpected: {found}"


def eventually(what, condition):
    """Asks until the condition gives something, for at most `TIMEOUT` seconds."""
    end = time.monotonic() + TIMEOUT
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {TIMEOUT} s"
        time.sleep(0.05)
