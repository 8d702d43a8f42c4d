"""Eclipse Paho for Python as a device and as a backend, with MQTT 3.1.1 and 5."""

import json
import socket
import ssl
import sys
import threading

import grpc
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common import TIMEOUT, aws, body, equal, name, raises, run, state, stubs
from mqtt_common import VERSIONS, Inbox, Message, base, each, mqtt_arguments

options = mqtt_arguments()
cloud = aws(options.http)
PROTOCOLS = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
SESSION_TAKEN_OVER = 0x8E


class Device:
    """A connection. `expiry`: seconds that the session outlives it; None is a clean session."""

    def __init__(self, version, client_id=None, expiry=None, will=None, tls=False):
        self.version = version
        self.inbox = Inbox()
        self.granted = Inbox()
        self.published = Inbox()
        self.connected = threading.Event()
        self.lost = threading.Event()
        clean = {} if version == "5" else {"clean_session": expiry is None}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name("client") if client_id is None else client_id,
            protocol=PROTOCOLS[version],
            reconnect_on_failure=False,
            **clean,
        )
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = lambda _c, _u, mid, codes, _p: self.granted.put((mid, codes))
        self.client.on_publish = lambda _c, _u, mid, code, _p: self.published.put((mid, code))
        self.client.on_message = self._on_message
        if will:
            topic, payload = will
            self.client.will_set(topic, payload, qos=1)
        self.address = options.mqtts if tls else options.mqtt
        if tls:
            self.client.tls_set(options.ca, options.certificate, options.key)
        self.expiry = expiry

    def _on_connect(self, _client, _data, flags, code, properties):
        self.code, self.session_present, self.announced = code, flags.session_present, properties
        self.connected.set()

    def _on_disconnect(self, _client, _data, _flags, code, _properties):
        self.lost_code = code
        self.lost.set()

    def _on_message(self, _client, _data, message):
        properties = message.properties if self.version == "5" else None
        self.inbox.put(Message(message.topic, message.payload, message.qos, properties))

    def __enter__(self):
        more = {}
        if self.version == "5":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self.expiry or 0
            more = {"clean_start": self.expiry is None, "properties": properties}
        host, port = self.address
        self.client.connect(host, port, keepalive=30, **more)
        self.client.loop_start()
        assert self.connected.wait(TIMEOUT), "no CONNACK"
        assert not self.code.is_failure, f"refused: {self.code}"
        return self

    def __exit__(self, *_):
        if not self.lost.is_set():
            self.client.disconnect()
            self.lost.wait(TIMEOUT)
        self.client.loop_stop()

    def break_off(self):
        """Ends the connection as a lost network does: without DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        assert self.lost.wait(TIMEOUT), "the end of the connection was not noticed"

    def ask(self, *filters, qos=1):
        """SUBSCRIBE, and the codes of the answer."""
        _, wanted = self.client.subscribe([(one, qos) for one in filters])
        return self.granted.take("SUBACK", lambda item: item[0] == wanted)[1]

    def subscribe(self, *filters, qos=1):
        codes = self.ask(*filters, qos=qos)
        equal([code.value for code in codes], [qos] * len(filters))

    def publish(self, topic, payload=b"", qos=1, **more):
        """PUBLISH, and the code of the PUBACK."""
        payload = json.dumps(payload) if isinstance(payload, dict) else payload
        wanted = self.client.publish(topic, payload, qos, **more).mid
        return self.published.take("PUBACK", lambda item: item[0] == wanted)[1]

    def request(self, topic, payload, outcome):
        """Publishes a request with a token and gives the answer with that token."""
        token = name("token")
        self.publish(topic, {**payload, "clientToken": token})
        answer = self.inbox.message(
            f"{topic}/{outcome}", lambda message: message.json.get("clientToken") == token
        )
        return answer.json


def http_update(thing, shadow=None, **sections):
    more = {"shadowName": shadow} if shadow else {}
    return body(cloud.update_thing_shadow(thingName=thing, payload=state(**sections), **more))


def http_get(thing, shadow=None):
    more = {"shadowName": shadow} if shadow else {}
    return body(cloud.get_thing_shadow(thingName=thing, **more))


def subscribe_to_answers(device, prefix):
    """As the AWS SDKs do it: wildcards for get and delete, not for update."""
    device.subscribe(f"{prefix}/get/+", f"{prefix}/delete/+")
    device.subscribe(f"{prefix}/update/accepted", f"{prefix}/update/rejected")


def connects(version):
    with Device(version) as device:
        assert not device.session_present
    with Device(version, client_id="") as device:
        device.subscribe("anything/at/all")
        if version == "5":
            assert device.announced.AssignedClientIdentifier, device.announced


def life_of_a_shadow(version, shadow):
    thing = name("life")
    prefix = base(thing, shadow)
    with Device(version) as device:
        subscribe_to_answers(device, prefix)
        absent = device.request(f"{prefix}/get", {}, "rejected")
        label = f"{thing}~{shadow}" if shadow else thing
        message = f"No shadow exists with name: '{label}'"
        equal((absent["code"], absent["message"]), (404, message))

        desired = {"state": {"desired": {"on": True, "level": 3}}}
        accepted = device.request(f"{prefix}/update", desired, "accepted")
        equal((accepted["version"], accepted["state"]), (1, desired["state"]))
        seconds = accepted["timestamp"]
        assert 1_700_000_000 < seconds < 5_000_000_000, f"not in seconds: {seconds}"
        leaf = {"timestamp": seconds}
        equal(accepted["metadata"], {"desired": {"on": leaf, "level": leaf}})
        # The PUBACK of an update says that every reader sees it.
        device.publish(f"{prefix}/update", {"state": {"reported": {"on": True}}})
        document = http_get(thing, shadow)
        equal((document["version"], document["state"]["reported"]), (2, {"on": True}))

        device.publish(f"{prefix}/get")
        untold = device.inbox.message(f"{prefix}/get/accepted").json
        assert "clientToken" not in untold, untold
        document = device.request(f"{prefix}/get", {}, "accepted")
        equal(document["version"], 2)
        delta = {"level": 3}
        wanted = {"desired": {"on": True, "level": 3}, "reported": {"on": True}, "delta": delta}
        equal(document["state"], wanted)
        equal(set(document["metadata"]), {"desired", "reported"})

        equal(device.request(f"{prefix}/delete", {}, "accepted")["version"], 2)
        equal(device.request(f"{prefix}/get", {}, "rejected")["code"], 404)
        equal(device.request(f"{prefix}/delete", {}, "rejected")["code"], 404)
        # The delete was version 3.
        equal(device.request(f"{prefix}/update", desired, "accepted")["version"], 4)


def works_with_classic_shadows(version):
    life_of_a_shadow(version, None)


def works_with_named_shadows(version):
    life_of_a_shadow(version, "config")
    with Device(version) as device:
        thing = name("apart")
        prefixes = [base(thing), base(thing, "a"), base(thing, "$b:2")]
        for number, prefix in enumerate(prefixes):
            device.subscribe(f"{prefix}/update/accepted")
            for _ in range(number + 1):
                request = {"state": {"desired": {"n": number}}}
                accepted = device.request(f"{prefix}/update", request, "accepted")
            equal(accepted["version"], number + 1)
    equal(http_get(thing)["state"]["desired"], {"n": 0})
    equal(http_get(thing, "$b:2")["version"], 3)


def says_why_an_update_is_rejected(version):
    thing = name("rejected")
    prefix = base(thing)
    http_update(thing, desired={"a": 1})
    http_update(thing, desired={"a": 2})
    with Device(version) as device:
        subscribe_to_answers(device, prefix)
        stale = {"state": {"desired": {"a": 3}}, "version": 1}
        found = device.request(f"{prefix}/update", stale, "rejected")
        equal((found["code"], found["message"]), (409, "Version conflict"))
        found = device.request(f"{prefix}/update", {}, "rejected")
        equal((found["code"], found["message"]), (400, "Missing required node: state"))
        device.publish(f"{prefix}/update", b"{")
        wrong = device.inbox.message(f"{prefix}/update/rejected").json
        equal((wrong["code"], "clientToken" in wrong), (400, False))
        current = {"state": {"desired": {"a": 3}}, "version": 2}
        equal(device.request(f"{prefix}/update", current, "accepted")["version"], 3)
    equal(http_get(thing)["version"], 3)


def delta_comes_after_an_update(version, shadow, update):
    thing = name("delta")
    prefix = base(thing, shadow)
    topic = f"{prefix}/update/delta"
    with Device(version) as device:
        subscribe_to_answers(device, prefix)
        device.subscribe(topic)
        update(thing, shadow, {"on": True, "level": 3})
        delta = device.inbox.message(topic).json
        equal((delta["version"], delta["state"]), (1, {"on": True, "level": 3}))
        assert set(delta["metadata"]) == {"on", "level"}, delta
        assert isinstance(delta["timestamp"], int), delta

        done = {"state": {"reported": delta["state"]}}
        equal(device.request(f"{prefix}/update", done, "accepted")["version"], 2)
        device.request(f"{prefix}/get", {}, "accepted")
        device.inbox.none(topic)
        # A difference is told again although `desired` did not change.
        device.publish(f"{prefix}/update", {"state": {"reported": {"level": 9}}})
        delta = device.inbox.message(topic).json
        equal((delta["version"], delta["state"]), (3, {"level": 3}))


def delta_comes_after_an_http_update(version):
    def update(thing, shadow, desired):
        http_update(thing, shadow, desired=desired)

    for shadow in (None, "config"):
        delta_comes_after_an_update(version, shadow, update)


def delta_comes_after_a_grpc_update(version):
    pb, pb_grpc = stubs(options.proto)
    with grpc.insecure_channel(options.grpc) as channel:
        shadows = pb_grpc.ShadowsStub(channel)

        def update(thing, shadow, desired):
            key = pb.ShadowKey(device_id=thing, shadow_name=shadow or "")
            request = pb.UpdateShadowRequest(key=key, desired_json=json.dumps(desired))
            shadows.UpdateShadow(request, timeout=TIMEOUT)

        for shadow in (None, "config"):
            delta_comes_after_an_update(version, shadow, update)


def deltas_come_in_the_order_of_versions(version):
    thing = name("order")
    topic = f"{base(thing)}/update/delta"
    with Device(version) as device:
        device.subscribe(topic)
        for number in range(1, 31):
            http_update(thing, desired={"n": number})
        # Versions may be left out when the device is slow, but never come back.
        last = 0
        while last < 30:
            delta = device.inbox.message(topic).json
            assert delta["version"] > last, f"{delta['version']} after {last}"
            last = delta["version"]
            equal(delta["state"], {"n": last})


def documents_have_before_and_after(version):
    thing = name("documents")
    for shadow in (None, "config"):
        topic = f"{base(thing, shadow)}/update/documents"
        with Device(version) as device:
            device.subscribe(topic)
            http_update(thing, shadow, desired={"a": 1})
            first = device.inbox.message(topic).json
            assert "previous" not in first, first
            equal(first["current"]["version"], 1)
            device.publish(f"{base(thing, shadow)}/update", {"state": {"reported": {"a": 1}}})
            second = device.inbox.message(topic).json
            equal(second["previous"]["state"], {"desired": {"a": 1}})
            equal(second["current"]["state"], {"desired": {"a": 1}, "reported": {"a": 1}})
            versions = (second["previous"]["version"], second["current"]["version"])
            equal(versions, (1, 2))
            equal(set(second["current"]["metadata"]), {"desired", "reported"})


def resumes_a_session(version):
    thing, client_id = name("resumed"), name("client")
    topic = f"{base(thing)}/update/delta"
    with Device(version, client_id, expiry=600) as device:
        assert not device.session_present
        device.subscribe(topic)
        http_update(thing, desired={"n": 1})
        equal(device.inbox.message(topic).json["state"], {"n": 1})
    for number in (2, 3, 4):
        http_update(thing, desired={"n": number})
    with Device(version, client_id, expiry=600) as device:
        assert device.session_present
        # What was missed may come one by one or as one; the newest comes in any case.
        newest = device.inbox.message(topic, lambda message: message.json["version"] == 4)
        equal(newest.json["state"], {"n": 4})
        device.break_off()
    with Device(version, client_id, expiry=600) as device:
        assert device.session_present
        http_update(thing, desired={"n": 5})
        device.inbox.message(topic, lambda message: message.json["version"] == 5)


def forgets_a_clean_session(version):
    thing, client_id = name("forgotten"), name("client")
    prefix = base(thing)
    topic = f"{prefix}/update/delta"
    with Device(version, client_id, expiry=600) as device:
        device.subscribe(topic)
    with Device(version, client_id) as device:
        assert not device.session_present
        http_update(thing, desired={"n": 1})
        subscribe_to_answers(device, prefix)
        device.request(f"{prefix}/get", {}, "accepted")
        device.inbox.none(topic)
    with Device(version, client_id, expiry=600) as device:
        assert not device.session_present


def last_will_follows_a_broken_connection(version):
    topic = f"{name('wills')}/gone"
    with Device(version) as watcher:
        watcher.subscribe(topic)
        with Device(version, will=(topic, b"not me")):
            pass
        with Device(version, will=(topic, b"me")) as device:
            device.break_off()
        # The one that said goodbye has no will, and came first.
        equal(watcher.inbox.message(topic).payload, b"me")
        watcher.inbox.none(topic)


def plain_topics_reach_other_clients(version):
    room = name("room")
    with Device(version) as reader, Device(version) as writer:
        reader.subscribe(f"{room}/+/temperature", qos=1)
        for qos in (0, 1):
            for number in range(10):
                writer.publish(f"{room}/kitchen/temperature", f"{qos}-{number}", qos)
            for number in range(10):
                message = reader.inbox.message(f"{room}/kitchen/temperature")
                equal((message.payload, message.qos), (f"{qos}-{number}".encode(), qos))
        writer.publish(f"{room}/kitchen/humidity", b"60")
        writer.publish(f"{room}/a/temperature", bytes(range(256)))
        equal(reader.inbox.message(f"{room}/a/temperature").payload, bytes(range(256)))
        reader.inbox.none(f"{room}/kitchen/humidity")

        reader.subscribe(f"{room}/all/#", qos=0)
        writer.publish(f"{room}/all/b/c", b"1")
        message = reader.inbox.message(f"{room}/all/b/c")
        equal((message.payload, message.qos), (b"1", 0))


def plain_topics_reach_the_other_version(version):
    topic = f"{name('mixed')}/x"
    other = next(one for one in VERSIONS if one != version)
    with Device(other) as reader, Device(version) as writer:
        reader.subscribe(topic)
        writer.publish(topic, "straße".encode())
        equal(reader.inbox.message(topic).payload, "straße".encode())


def second_connection_takes_over(version):
    thing, client_id = name("taken"), name("client")
    topic = f"{base(thing)}/update/delta"
    with Device(version, client_id, expiry=600) as first:
        first.subscribe(topic)
        with Device(version, client_id, expiry=600) as second:
            assert first.lost.wait(TIMEOUT), "the first connection is still there"
            if version == "5":
                equal(first.lost_code.value, SESSION_TAKEN_OVER)
            assert second.session_present
            http_update(thing, desired={"n": 1})
            equal(second.inbox.message(topic).json["state"], {"n": 1})
            first.inbox.none(topic)


def properties_travel_with_messages():
    topic = f"{name('properties')}/x"
    with Device("5") as reader, Device("5") as writer:
        reader.subscribe(topic)
        sent = Properties(PacketTypes.PUBLISH)
        sent.ContentType = "text/plain"
        sent.ResponseTopic = "answers/here"
        sent.CorrelationData = b"\x00\x01"
        sent.UserProperty = [("a", "1"), ("a", "2")]
        writer.publish(topic, b"hello", properties=sent)
        found = reader.inbox.message(topic).properties
        equal(found.ContentType, "text/plain")
        equal((found.ResponseTopic, found.CorrelationData), ("answers/here", b"\x00\x01"))
        equal(found.UserProperty, [("a", "1"), ("a", "2")])


def says_what_it_does_not_do():
    with Device("5") as device:
        announced = device.announced
        equal((announced.MaximumQoS, announced.RetainAvailable), (1, 0))


def reaches_its_own_shadows_with_a_certificate(version):
    thing = options.thing
    prefix = base(thing)
    with Device(version, tls=True) as device:
        subscribe_to_answers(device, prefix)
        request = {"state": {"reported": {"run": name("run")}}}
        accepted = device.request(f"{prefix}/update", request, "accepted")
        equal(http_get(thing)["version"], accepted["version"])
        device.subscribe(f"device/{thing}/#")
        device.publish(f"device/{thing}/hello", b"me")
        equal(device.inbox.message(f"device/{thing}/hello").payload, b"me")


def reaches_nothing_of_other_devices(version):
    other = name("other")
    with Device(version, tls=True) as device:
        refused = (f"{base(other)}/get/+", "$aws/things/+/shadow/update/accepted", "#")
        for wanted in (*refused, f"device/{other}/x"):
            codes = device.ask(wanted)
            assert all(code.value >= 0x80 for code in codes), f"{wanted}: {codes}"
    with Device(version, tls=True) as device:
        # Answered with a code or by the end of the connection, but not carried out.
        device.client.publish(f"{base(other)}/update", state(desired={"a": 1}), 1)
        device.client.publish(f"{base(options.thing)}/get", b"", 1)
    absent = cloud.exceptions.ResourceNotFoundException
    raises(absent, None, lambda: cloud.get_thing_shadow(thingName=other))


def needs_a_certificate():
    host, port = options.mqtts
    context = ssl.create_default_context(cafile=options.ca)
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x1e\x00\x01x"
    with socket.create_connection((host, port), TIMEOUT) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as link:
                link.sendall(connect)
                answer = link.recv(4)
        except (ssl.SSLError, ConnectionError):
            return
    # Not authorized; a client without a certificate might have had a password.
    equal(answer, b"\x20\x02\x00\x05")


def agrees_on_the_protocol_names_of_sdks():
    for wanted in ("x-amzn-mqtt-ca", "mqtt"):
        context = ssl.create_default_context(cafile=options.ca)
        context.load_cert_chain(options.certificate, options.key)
        context.set_alpn_protocols([wanted])
        with socket.create_connection(options.mqtts, TIMEOUT) as plain:
            with context.wrap_socket(plain, server_hostname=options.mqtts[0]) as link:
                equal(link.selected_alpn_protocol(), wanted)


checks = []
if options.mqtt:
    both = [
        connects,
        works_with_classic_shadows,
        works_with_named_shadows,
        says_why_an_update_is_rejected,
        delta_comes_after_an_http_update,
        delta_comes_after_a_grpc_update,
        deltas_come_in_the_order_of_versions,
        documents_have_before_and_after,
        resumes_a_session,
        forgets_a_clean_session,
        last_will_follows_a_broken_connection,
        plain_topics_reach_other_clients,
        plain_topics_reach_the_other_version,
        second_connection_takes_over,
    ]
    checks += each(VERSIONS, both, lambda version: f"MQTT {version}")
    checks += [properties_travel_with_messages, says_what_it_does_not_do]
if options.mqtts:
    both = [reaches_its_own_shadows_with_a_certificate, reaches_nothing_of_other_devices]
    checks += each(VERSIONS, both, lambda version: f"MQTT {version} with TLS")
    checks += [needs_a_certificate, agrees_on_the_protocol_names_of_sdks]
sys.exit(run(checks))
