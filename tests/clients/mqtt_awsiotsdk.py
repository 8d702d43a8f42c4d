"""The AWS IoT Device SDK v2 for Python, over mutual TLS, used as in its samples.

`IotShadowClient` (V1) over MQTT 3.1.1, `IotShadowClientV2` over MQTT 3.1.1 and 5.
"""

import gc
import sys
import threading
import uuid

from awscrt import mqtt, mqtt5, mqtt_request_response
from awsiot import (
    ServiceStreamOptions,
    V2ServiceException,
    iotshadow,
    mqtt5_client_builder,
    mqtt_connection_builder,
)

from common import TIMEOUT, aws, body, equal, name, run, state
from mqtt_common import Inbox, each, mqtt_arguments

options = mqtt_arguments()
cloud = aws(options.http)
THING = options.thing
QOS = mqtt.QoS.AT_LEAST_ONCE


class Rejected(Exception):
    """The service said no."""

    def __init__(self, error):
        super().__init__(f"{error.code} {error.message}")
        self.code = error.code
        self.message = error.message
        self.token = error.client_token


def settings():
    """What both builders are given; `test-` and a UUID is the client id of the samples."""
    host, port = options.mqtts
    return {
        "endpoint": host,
        "port": port,
        "ca_filepath": options.ca,
        "cert_filepath": options.certificate,
        "pri_key_filepath": options.key,
        "client_id": "test-" + str(uuid.uuid4()),
    }


class Link311:
    """A connection with MQTT 3.1.1."""

    def __init__(self, **more):
        self.protocol = mqtt_connection_builder.mtls_from_path(
            **{**settings(), "clean_session": False, "keep_alive_secs": 30, **more}
        )

    def __enter__(self):
        self.protocol.connect().result(TIMEOUT)
        return self.protocol

    def __exit__(self, *_):
        self.protocol.disconnect().result(TIMEOUT)


class Link5:
    """A connection with MQTT 5."""

    def __init__(self, **more):
        self.attempts = Inbox()
        self.stopped = threading.Event()
        self.protocol = mqtt5_client_builder.mtls_from_path(
            on_lifecycle_connection_success=lambda _: self.attempts.put(None),
            on_lifecycle_connection_failure=lambda event: self.attempts.put(event.exception),
            on_lifecycle_stopped=lambda _: self.stopped.set(),
            **{**settings(), **more},
        )

    def __enter__(self):
        self.protocol.start()
        try:
            equal(self.attempts.take("end of the attempt to connect", lambda _: True), None)
        except AssertionError:
            self.__exit__()
            raise
        return self.protocol

    def __exit__(self, *_):
        self.protocol.stop()
        assert self.stopped.wait(TIMEOUT), "the client does not stop"


class ShadowV1:
    """A shadow through `IotShadowClient`: publish a request, await the answer with its token."""

    def __init__(self, protocol, shadow):
        self.client = iotshadow.IotShadowClient(protocol)
        self.shadow = shadow
        self.answers = Inbox()
        for verb in ("get", "update", "delete"):
            for outcome in ("accepted", "rejected"):
                self._subscribe(f"{verb}_{self._noun}_{outcome}", verb, self.answers.put)

    @property
    def _noun(self):
        return "named_shadow" if self.shadow else "shadow"

    def _request(self, kind, **fields):
        """A request of the SDK: `Get`, `Update`… of a classic or named shadow."""
        if self.shadow:
            fields["shadow_name"] = self.shadow
        noun = "NamedShadow" if self.shadow else "Shadow"
        return getattr(iotshadow, kind.replace("Shadow", noun))(thing_name=THING, **fields)

    def _subscribe(self, method, verb, listener):
        kinds = {
            "delta_updated_events": "ShadowDeltaUpdatedSubscriptionRequest",
            "updated_events": "ShadowUpdatedSubscriptionRequest",
        }
        kind = kinds.get(verb, f"{verb.capitalize()}ShadowSubscriptionRequest")
        subscribe = getattr(self.client, f"subscribe_to_{method}")
        done, _ = subscribe(self._request(kind), QOS, listener)
        done.result(TIMEOUT)

    def _call(self, verb, **fields):
        token = str(uuid.uuid4())
        request = self._request(f"{verb.capitalize()}ShadowRequest", client_token=token, **fields)
        getattr(self.client, f"publish_{verb}_{self._noun}")(request, QOS).result(TIMEOUT)
        answer = self.answers.take(f"{verb} answer", lambda item: item.client_token == token)
        if isinstance(answer, iotshadow.ErrorResponse):
            raise Rejected(answer)
        return answer

    def get(self):
        return self._call("get")

    def update(self, version=None, **sections):
        return self._call("update", state=iotshadow.ShadowState(**sections), version=version)

    def delete(self):
        return self._call("delete")

    def deltas(self):
        inbox = Inbox()
        events = "delta_updated_events"
        self._subscribe(f"{self._noun}_{events}", events, inbox.put)
        return inbox

    def documents(self):
        inbox = Inbox()
        self._subscribe(f"{self._noun}_updated_events", "updated_events", inbox.put)
        return inbox

    def close(self):
        self.client = None


class ShadowV2:
    """A shadow through `IotShadowClientV2`: requests and streams."""

    def __init__(self, protocol, shadow):
        self.client = iotshadow.IotShadowClientV2(
            protocol,
            mqtt_request_response.ClientOptions(
                max_request_response_subscriptions=2,
                max_streaming_subscriptions=2,
                operation_timeout_in_seconds=TIMEOUT,
            ),
        )
        self.shadow = shadow
        self.streams = []

    def _named(self):
        return {"shadow_name": self.shadow} if self.shadow else {}

    def _call(self, verb, **fields):
        noun = "NamedShadow" if self.shadow else "Shadow"
        kind = getattr(iotshadow, f"{verb.capitalize()}{noun}Request")
        method = f"{verb}_named_shadow" if self.shadow else f"{verb}_shadow"
        request = kind(thing_name=THING, **self._named(), **fields)
        try:
            return getattr(self.client, method)(request).result(TIMEOUT * 2)
        except V2ServiceException as error:
            if error.modeled_error is None:
                raise
            raise Rejected(error.modeled_error) from error

    def get(self):
        return self._call("get")

    def update(self, version=None, **sections):
        return self._call("update", state=iotshadow.ShadowState(**sections), version=version)

    def delete(self):
        return self._call("delete")

    def _stream(self, events, kind):
        inbox, subscribed = Inbox(), Inbox()
        noun = "NamedShadow" if self.shadow else "Shadow"
        method = "named_shadow" if self.shadow else "shadow"
        stream = getattr(self.client, f"create_{method}_{events}_stream")(
            getattr(iotshadow, f"{noun}{kind}SubscriptionRequest")(
                thing_name=THING, **self._named()
            ),
            ServiceStreamOptions(
                incoming_event_listener=inbox.put,
                subscription_status_listener=subscribed.put,
                deserialization_failure_listener=inbox.put,
            ),
        )
        stream.open()
        self.streams.append(stream)
        status = subscribed.take("status of the subscription", lambda _: True)
        established = mqtt_request_response.SubscriptionStatusEventType.SUBSCRIPTION_ESTABLISHED
        equal((status.type, status.error), (established, None))
        return inbox

    def deltas(self):
        return self._stream("delta_updated", "DeltaUpdated")

    def documents(self):
        return self._stream("updated", "Updated")

    def close(self):
        # Streams and client are closed when nothing refers to them.
        self.streams = []
        self.client = None


class Case:
    """A client of the SDK on a connection, and one of the device's shadows."""

    def __init__(self, title, link, client, shadow):
        self.title = f"{title}, {'named' if shadow else 'classic'} shadow"
        self.link = link
        self.client = client
        self.shadow = shadow

    def run(self, check):
        with self.link() as protocol:
            shadow = self.client(protocol, self.shadow)
            try:
                check(shadow)
            finally:
                shadow.close()
                gc.collect()


def rejected(call):
    """The call must be rejected."""
    try:
        answer = call()
    except Rejected as error:
        return error
    raise AssertionError(f"not rejected: {answer}")


def absent(shadow):
    """Deletes the shadow if it is there."""
    try:
        shadow.delete()
    except Rejected as error:
        equal(error.code, 404)


def update_by_backend(shadow, **sections):
    more = {"shadowName": shadow.shadow} if shadow.shadow else {}
    payload = state(**sections)
    return body(cloud.update_thing_shadow(thingName=THING, payload=payload, **more))


def gets_updates_and_deletes(case):
    def check(shadow):
        absent(shadow)
        first = shadow.update(desired={"on": True, "level": 3})
        equal((first.state.desired, first.state.reported), ({"on": True, "level": 3}, None))
        assert first.timestamp is not None and first.metadata.desired, first
        second = shadow.update(reported={"on": True})
        equal(second.version, first.version + 1)
        found = shadow.get()
        equal((found.version, found.state.delta), (second.version, {"level": 3}))
        equal(found.state.desired, {"on": True, "level": 3})
        equal(found.state.reported, {"on": True})
        third = shadow.update(version=second.version, reported={"level": 3})
        equal(third.version, second.version + 1)
        equal(shadow.get().state.delta, None)
        equal(shadow.delete().version, third.version)
        # The delete has a version too.
        equal(shadow.update(desired={"on": True}).version, third.version + 2)

    case.run(check)


def gets_errors_with_code_and_message(case):
    def check(shadow):
        absent(shadow)
        missing = rejected(shadow.get)
        equal(missing.code, 404)
        label = f"{THING}~{shadow.shadow}" if shadow.shadow else THING
        equal(missing.message, f"No shadow exists with name: '{label}'")
        assert missing.token, "no client token"
        equal(rejected(shadow.delete).code, 404)
        current = shadow.update(desired={"a": 1}).version
        stale = rejected(lambda: shadow.update(version=current + 5, desired={"a": 2}))
        equal((stale.code, stale.message), (409, "Version conflict"))
        found = shadow.get()
        equal((found.version, found.state.desired), (current, {"a": 1}))

    case.run(check)


def streams_deltas_and_documents(case):
    def check(shadow):
        absent(shadow)
        deltas, documents = shadow.deltas(), shadow.documents()
        version = update_by_backend(shadow, desired={"n": 1})["version"]
        delta = deltas.take("delta", lambda event: event.version == version)
        equal(delta.state, {"n": 1})
        assert delta.timestamp is not None and delta.metadata, delta
        first = documents.take("document", lambda event: event.current.version == version)
        equal((first.previous, first.current.state.desired), (None, {"n": 1}))

        settled = shadow.update(reported=delta.state).version
        second = documents.take("document", lambda event: event.current.version == settled)
        equal(second.previous.version, version)
        equal(second.previous.state.reported, None)
        equal(second.current.state.reported, {"n": 1})

        for number in range(2, 12):
            version = update_by_backend(shadow, desired={"n": number})["version"]
        last = deltas.take("newest delta", lambda event: event.version == version)
        equal(last.state, {"n": 11})
        seen = [event.version for event in deltas.kept]
        equal(seen, sorted(seen))
        shadow.update(reported=last.state)

    case.run(check)


def stays_with_its_own_shadows(link):
    with link() as protocol:
        shadow = ShadowV2(protocol, None)
        request = iotshadow.GetShadowRequest(thing_name=name("other"))
        try:
            answer = shadow.client.get_shadow(request).result(TIMEOUT * 2)
        except V2ServiceException as error:
            # It was the SUBACK that said no, not a limit of time.
            found = error.inner_error or error.modeled_error
            assert "SUBSCRIBE_FAILURE" in str(found), f"not refused by SUBACK: {found}"
        else:
            raise AssertionError(f"another device's shadow was read: {answer}")
        finally:
            shadow.close()
            gc.collect()


def connects_by_address(link):
    with link(endpoint="127.0.0.1") as protocol:
        ShadowV2(protocol, None).close()
        gc.collect()


def talks_on_topics_of_its_own():
    topic = f"device/{THING}/events"
    inbox = Inbox()
    with Link5(on_publish_received=lambda data: inbox.put(data.publish_packet)) as client:
        filters = [mqtt5.Subscription(topic_filter=topic, qos=mqtt5.QoS.AT_LEAST_ONCE)]
        client.subscribe(mqtt5.SubscribePacket(subscriptions=filters)).result(TIMEOUT)
        packet = mqtt5.PublishPacket(topic=topic, payload=b"hi", qos=mqtt5.QoS.AT_LEAST_ONCE)
        client.publish(packet).result(TIMEOUT)
        equal(inbox.take(topic, lambda packet: packet.topic == topic).payload, b"hi")


assert options.mqtts, "the AWS IoT Device SDK needs TLS: --mqtts and its certificates"
clients = [
    ("V1 over MQTT 3.1.1", Link311, ShadowV1),
    ("V2 over MQTT 3.1.1", Link311, ShadowV2),
    ("V2 over MQTT 5", Link5, ShadowV2),
]
cases = [Case(*client, shadow) for client in clients for shadow in (None, "config")]
everything = [
    gets_updates_and_deletes,
    gets_errors_with_code_and_message,
    streams_deltas_and_documents,
]
checks = each(cases, everything, lambda case: case.title)
both = [stays_with_its_own_shadows, connects_by_address]
checks += each([Link311, Link5], both, lambda link: link.__doc__.strip(".").lower())
checks += [talks_on_topics_of_its_own]
sys.exit(run(checks))
