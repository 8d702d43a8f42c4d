#!/usr/bin/env python3
"""A device that does what its shadow says. Copy it and put your hardware into `apply`.

    pip install 'paho-mqtt>=2'
    python3 device.py --thing lamp-1
    python3 device.py --thing lamp-1 --host shadows.example.org --port 8883 \
        --ca ca.pem --certificate lamp-1.pem --key lamp-1.key

A backend writes into the shadow what the device should be (`desired`), the device writes what it
is (`reported`). What differs is the *delta*: the work that is left to do. The device

 1. keeps a session on the server, so that what happens while it is away is not lost;
 2. hears of deltas, and asks for the shadow whenever it connects;
 3. applies what is new and reports it, which makes the delta disappear;
 4. connects again when the connection breaks, each time after a longer pause.

Topics and messages are those of AWS IoT Core.
"""

import argparse
import json
import random

import paho.mqtt.client as mqtt

# What the device is. A real one reads it from its hardware.
state = {"on": False, "colour": "white"}


def apply(wanted):
    """Makes the device what is wanted, as far as it can. Gives what it is now."""
    done = {}
    for key, value in wanted.items():
        print(f"{key}: {state.get(key)} -> {value}", flush=True)
        state[key] = value
        done[key] = value
    return done


class Device:
    def __init__(self, options):
        self.options = options
        self.shadow = f"$aws/things/{options.thing}/shadow"
        # Of the newest document that was seen. Older ones say nothing new.
        self.version = 0
        self.applied = 0
        # The report that is still on its way, by its message id.
        self.report_id = None

        # Not a clean session: the server keeps our subscriptions and what they bring while we are
        # away. It knows the session by the client id, so that must stay the same.
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=options.thing,
            protocol=mqtt.MQTTv311,
            clean_session=False,
        )
        if options.ca:
            self.client.tls_set(options.ca, options.certificate, options.key)
        # Doubles up to two minutes. The random start keeps a fleet from coming back all at once.
        self.client.reconnect_delay_set(min_delay=random.randint(1, 5), max_delay=120)
        self.client.on_connect = self.on_connect
        self.client.on_connect_fail = lambda _client, _data: print("cannot connect", flush=True)
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish
        # What the server answers to `get` has the delta too, one level deeper.
        self.client.message_callback_add(f"{self.shadow}/update/delta", self.on_delta)
        self.client.message_callback_add(f"{self.shadow}/get/accepted", self.on_document)
        self.client.message_callback_add(f"{self.shadow}/update/rejected", self.on_rejected)

    def run(self):
        self.client.connect_async(self.options.host, self.options.port, keepalive=60)
        self.client.loop_forever(retry_first_connection=True)

    def on_connect(self, client, _data, flags, code, _properties):
        if code.is_failure:
            # Such as a certificate that is not accepted. The loop tries again.
            print(f"refused: {code}", flush=True)
            return
        print(f"connected, session present: {flags.session_present}", flush=True)
        # Asking again for what a session has already does no harm.
        wanted = ("update/delta", "get/accepted", "update/rejected")
        client.subscribe([(f"{self.shadow}/{topic}", 1) for topic in wanted])
        # The session may have expired, or dropped what was too old. This tells where we stand;
        # a shadow that does not exist yet is rejected, and that is fine.
        client.publish(f"{self.shadow}/get", b"", qos=1)

    def on_disconnect(self, _client, _data, _flags, code, _properties):
        print(f"disconnected: {code}", flush=True)

    def on_delta(self, _client, _data, message):
        delta = json.loads(message.payload)
        self.follow(delta["version"], delta["state"])

    def on_document(self, _client, _data, message):
        document = json.loads(message.payload)
        self.follow(document["version"], document["state"].get("delta", {}))

    def on_rejected(self, _client, _data, message):
        print(f"report rejected: {json.loads(message.payload)['message']}", flush=True)
        # The next delta, or the next answer to `get`, counts as new, and is reported again.
        self.version = 0

    def follow(self, version, wanted):
        """Applies a delta, unless a newer document was seen, and reports."""
        if version <= self.version:
            return
        self.version = version
        if wanted:
            self.applied += 1
            report = json.dumps({"state": {"reported": apply(wanted)}})
            # With QoS 1 paho keeps the report until the server has it, over connections too.
            self.report_id = self.client.publish(f"{self.shadow}/update", report, qos=1).mid

    def on_publish(self, client, _data, message_id, _code, _properties):
        if message_id != self.report_id:
            return
        print(f"reported, {self.applied} deltas so far", flush=True)
        if self.options.deltas and self.applied >= self.options.deltas:
            client.disconnect()


def main():
    parser = argparse.ArgumentParser(description="A device that does what its shadow says.")
    parser.add_argument("--thing", required=True, help="id of the device")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=7483, help="default: %(default)s")
    parser.add_argument("--ca", help="certificate of the authority that signed the server's")
    parser.add_argument("--certificate", help="certificate of the device")
    parser.add_argument("--key", help="its private key")
    parser.add_argument("--deltas", type=int, metavar="N", help="end after N deltas")
    options = parser.parse_args()
    try:
        Device(options).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
